"""Whether what the probe foresees of a training's GPU memory is what its process takes, and what sharing a GPU gives.

For each network: gigabytes that the search would reserve for a training (measured peak with its margin, and the
process), what the process of such a training really took, sampled while it trained, and their ratio: above 1 the check
has failed. Then as many trainings at once as fit by that, `--most` at most, beside one alone: images a second of all
over images a second of one. With `--mps` the same through a daemon of NVIDIA's Multi-Process Service.

    python benchmarks/gpu_room.py
    python benchmarks/gpu_room.py --mps --most 16 --epochs 8
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from search.run.gpu_memory import GpuMemory
from search.run.gpu_needs import MARGIN
from search.run.gpu_room import GpuRoom
from search.run.job import Failure, Job, Outcome
from search.run.local_processes import LocalProcesses
from search.run.mps import Mps
from search.run.number_formats import Probe
from storage.records import Kind
from trainers.data.splits import DataSpec

# name, backbone, batch, side of the images
NETWORKS = (
    ("ResNet-8, 32 px, batch 64", "resnet8", 64, 32),
    ("ResNet-20, 32 px, batch 256", "resnet20", 256, 32),
    ("ResNet-20, 64 px, batch 512", "resnet20", 512, 64),
)


def main() -> None:
    args, good = arguments(), True
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {args.epochs} epochs")
    with closing(Mps()) as mps:
        if args.mps:
            mps.start(args.most, print)
            print("under MPS" if mps.active else "without MPS, which this machine does not have")
        for name, backbone, batch, side in NETWORKS:
            with TemporaryDirectory() as folder:
                jobs = [one(Path(folder), n, backbone, batch, side, args) for n in range(args.most)]
                good = row(name, jobs, args) and good
    sys.exit(0 if good else 1)


def one(
    folder: Path, number: int, backbone: str, batch: int, side: int, args: argparse.Namespace
) -> Job:
    """A training on digits, enlarged."""
    return Job(
        kind=Kind.SEARCH,
        number=number,
        family="gated_resnet",
        params={"backbone": backbone, "batch": batch},
        epochs=args.epochs,
        seed=number,
        data=DataSpec(source="digits", image_size=side),
        checkpoints=str(folder),
        key=f"s/search-{number:04d}",
        device="cuda",
        precision="bfloat16",
    )


def row(name: str, jobs: list[Job], args: argparse.Namespace) -> bool:
    """Print one network's line; whether it took no more than was foreseen."""
    with closing(GpuMemory()) as memory:
        overhead, total = memory.overhead(), memory()[0][1]
        with closing(Probe()) as probe:
            peak = probe.gpu_peak(jobs[0])
        if peak is None:
            print(f"{name}: could not be measured")
            return False
        needed = round(MARGIN * peak) + overhead
        taken, alone = trained(jobs[:1], memory, None)
        fit = max(1, min(args.most, (total - overhead) // needed))
        together = [replace(job, key=f"t/{job.key}", gpu_bytes=needed) for job in jobs[:fit]]
        _, at_once = trained(together, memory, GpuRoom(memory))
    print(
        f"{name:28} foreseen {needed / 1e9:.2f} GB (process {overhead / 1e9:.2f}), taken {taken / 1e9:.2f}, "
        f"ratio {taken / needed:.2f}; {fit} at once: {fit * alone / at_once:.2f} times one alone",
        flush=True,
    )
    return taken <= needed


def trained(jobs: list[Job], memory: GpuMemory, room: GpuRoom | None) -> tuple[int, float]:
    """Bytes that were taken at most while they trained, and seconds."""
    before = least = memory()[0][0]
    engine = LocalProcesses(len(jobs), room=room)
    started, running = time.perf_counter(), len(jobs)
    try:
        for job in jobs:
            engine.submit(job)
        while running:
            happened = engine.next_event(0.02)
            least = min(least, memory()[0][0])
            if happened and isinstance(happened[1], Failure):
                raise RuntimeError(happened[1].error)
            running -= bool(happened and isinstance(happened[1], Outcome))
    finally:
        engine.close()
    return before - least, time.perf_counter() - started


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=8, help="trainings at once")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--mps", action="store_true", help="through NVIDIA's MPS")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU here")
    return args


if __name__ == "__main__":
    main()
