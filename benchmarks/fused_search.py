"""What `run: {fused: N}` gives a whole search: the same study with each N in turn, time by the clock and of the CPU.

The study has 16 trials of one gated ResNet-8 on digits that differ in target, weight of the loss, learning rate and
seed; one worker, one thread. All of it counts: start, baseline, measuring, pictures, MLflow. CPU time is that of the
search and of all processes that it started, which other programs disturb less than the clock.

Measured once on a two-core AMD EPYC that some twenty other programs shared, torch 2.15, 8 trials of 6 epochs without
early stopping, both searches at the same time: 130.0 s of CPU without, 80.6 with `fused: 8`, 1.61 times as fast; by the
clock 1,556 and 1,013 s. With 4 trials of 2 epochs and `fused: 4` 56.2 and 58.2 s: nothing gained.

    python benchmarks/fused_search.py
    python benchmarks/fused_search.py --trials 8 --epochs 6 --stopping false --fused 1 8
    python benchmarks/fused_search.py --width 0.5 --batch 64 --repeats 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STUDY = """\
study: fused
data: digits
families: [gated_resnet]
sampler: random
warm_start: false
cascades: false
early_stopping: {stopping}
space:
  gated_resnet: {{backbone: resnet8, width: {width}, granularity: layer, gate: dependent, loss: per_batch,
    target_schedule: constant, batch: {batch}}}
budget: {{trials: {trials}, epochs: {epochs}}}
run: {{precision: float32, threads: 1, fused: {fused}}}
"""
LOOK = 0.2  # seconds between looks at how much time processes have taken


@dataclass
class Spent:
    """CPU time of processes, by their ids; each as it was when it was seen last."""

    of: dict[tuple[int, float], float] = field(default_factory=dict)

    def look(self, parent: psutil.Process) -> None:
        with suppress(psutil.Error):
            for one in [parent, *parent.children(recursive=True)]:
                with suppress(psutil.Error):
                    times = one.cpu_times()
                    self.of[one.pid, one.create_time()] = times.user + times.system

    @property
    def seconds(self) -> float:
        return sum(self.of.values())


def main() -> None:
    args = arguments()
    print(f"{args.trials} trials of {args.epochs} epochs, width {args.width}, batch {args.batch}")
    print(f"{'fused':>5} {'s, clock':>9} {'s, CPU':>8} {'clock x':>8} {'CPU x':>7}")
    clock: dict[int, list[float]] = {fused: [] for fused in args.fused}
    cpu: dict[int, list[float]] = {fused: [] for fused in args.fused}
    for _ in range(args.repeats):
        for fused in args.fused:
            taken = searched(fused, args)
            clock[fused].append(taken[0])
            cpu[fused].append(taken[1])
    first = args.fused[0]
    for fused in args.fused:
        one, other = statistics.median(clock[fused]), statistics.median(cpu[fused])
        faster = statistics.median(clock[first]) / one, statistics.median(cpu[first]) / other
        print(f"{fused:>5} {one:>9.1f} {other:>8.1f} {faster[0]:>8.2f} {faster[1]:>7.2f}")


def searched(fused: int, args: argparse.Namespace) -> tuple[float, float]:
    """Seconds by the clock and of the CPU that a search takes, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        values = {
            name: getattr(args, name) for name in ("width", "batch", "trials", "epochs", "stopping")
        }
        text = STUDY.format(fused=fused, **values)
        Path(folder, "study.yml").write_text(text)
        command = [sys.executable, "-m", "search.cli", "search", "study.yml"]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        began, spent = time.perf_counter(), Spent()
        log = Path(folder, "log.txt")
        with log.open("w") as out:
            running = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
            parent = psutil.Process(running.pid)
            while running.poll() is None:
                spent.look(parent)
                time.sleep(LOOK)
        if running.returncode:
            raise SystemExit(log.read_text())
        return time.perf_counter() - began, spent.seconds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fused", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--stopping", choices=["true", "false"], default="true")
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
