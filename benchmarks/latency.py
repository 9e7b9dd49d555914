"""Predicted latency beside measured latency: does the sum over units say what a whole exported network takes?

Networks of all families are drawn at random with random weights, their gates and exits set so that images differ in
what they run. Each is exported to ONNX. Its units alone and the whole network, on some images one by one, are timed in
the same rounds, so that both share the machine's moods. The prediction is `search.latency`'s: a call, plus the units
that each image runs. Shown are the error of the mean over a network's images, and the rank correlation over networks,
also that of MACs with measured time.

    python benchmarks/latency.py                          # 30 networks; mostly the time of exporting them
    python benchmarks/latency.py --nets 9 --seconds 30    # one of each family

Measured: all 30 at 64 px, 4 images, CPU time of the thread, ONNX Runtime 1.32 on an Intel Xeon with AVX-512 and one
other process on its second core: median error 7.0 %, 90 % within 13 %, rank correlation 0.969 (MACs 0.940). Predicted
over measured: vision transformers 0.90 to 0.94, DenseNets 0.95 to 0.99, multi_exit 0.96 to 1.07, timm 0.84 to 1.05,
gated_features 0.97 to 1.10, gated MobileNets 1.09 to 1.14, gated ResNets 1.04 to 1.23.

With three to seven busy processes on these two cores it was 10.6 %, 29 % and 0.962: then networks of equal size and
operations differ by up to 24 % in what is measured. What the prediction needs, each measured by itself: the share that
networks take of the sum of their units, since weights of a unit that is run again and again stay in the cache (11 %
became 8.5 %); filters that are closed for good counted as gone (12 gated ResNets: 47 % became 13 %); and filters
counted in groups of 16, which CPUs compute as fast as one.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from search.latency.lock import timing
from search.latency.predict import NetLatency
from search.latency.profile import PROVIDERS
from search.latency.table import LatencyTable, Timed
from search.latency.time_units import BRANCH, CALL, interleaved, session_run, setting
from search.schedule.growth import Draw
from search.schedule.sampler import InfeasibleError, draw_candidate
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.narrowing import narrowed
from spaces.contract.net import DynamicNet
from spaces.contract.registry import families
from spaces.contract.task import Task
from spaces.contract.units import Ran, Unit, units_of, whole_unit
from spaces.deploy.ship import DeployedNet, onnx_model, ship
from spaces.deploy.unit_program import branch_program, empty_program, unit_program

SMALL: dict[str, dict[str, object]] = {  # networks that are exported in less than a minute
    "gated_resnet": {"backbone": ["resnet8", "resnet14", "resnet20", "resnet26"]},
    "multi_exit": {"backbone": ["resnet18", "vgg16_bn"], "width": [0.125, 0.25]},
    "gated_mobilenet": {"width": [0.25, 0.5, 1.0]},
    "gated_densenet": {"depth": [22], "growth": [8, 12]},
    "timm": {"backbone": ["tf_efficientnet_lite0", "resnet18"]},
    "gated_features": {},
    **{name: {"layers": [3, 4, 6]} for name in ("dense_vit", "skip_vit", "shuffled_vit")},
}
LEAVE = 0.6  # of the images that come to an exit stay
SHAKEN = ("gate_heads", "exit_gates", "oracles")  # so that decisions differ from image to image
Run = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """A network, its knobs, and what the images that are timed ran."""

    candidate: Candidate
    net: DynamicNet
    knobs: Knobs
    rates: dict[str, tuple[float, ...]]
    ran: Ran
    macs: float
    pixels: Tensor


def runs_of(net: DeployedNet, pixels: Tensor) -> list[Run]:
    """The exported network on each image of pixels (images, C, H, W) alone."""
    import onnxruntime

    model = onnx_model(net, pixels[:2])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # thresholds that can be set are no mistake
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    images = [{"pixels": one[None].numpy()} for one in pixels]
    return [lambda image=image: session.run(None, image) for image in images]  # type: ignore[misc]


def candidates(seed: int, only: Collection[str] = ()) -> Iterator[Candidate]:
    """Of each family in turn, or of `only` some, drawn at random from its small networks."""
    draw = np.random.default_rng(seed)
    spaces = {
        name: narrowed(own.space, SMALL.get(name, {}), name)
        for name, own in families().items()
        if not only or name in only
    }
    while True:
        for name, space in spaces.items():
            try:
                yield draw_candidate(Draw(draw), {name: space}, lambda _: 1)
            except InfeasibleError:
                continue


def subject(candidate: Candidate, task: Task, pixels: Tensor) -> Subject:
    """The network with random weights and decisions on these images. Raises ValueError where it cannot be built."""
    config = replace(candidate.config, **candidate.family.rebuilt_with)
    net = replace(candidate, config=config).build(task, 0).eval().requires_grad_(False)
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        if name.startswith(SHAKEN):
            parameter.copy_(torch.randn_like(parameter) * (1.0 if parameter.ndim > 1 else 0.3))
    knobs = Knobs() if net.gates else Knobs(policy="always_on")
    with torch.inference_mode():
        if net.exit_count and not any(gate.kind == "exit" for gate in net.gates):
            knobs = replace(knobs, exit_rule="maxprob", exit_thresholds=_thresholds(net, pixels))
        output = net.run(pixels, knobs)
    opened = {d.gate.name: d.open_BU.double().mean(0) for d in output.decisions}
    rates = {name: tuple(values.tolist()) for name, values in opened.items()}
    macs = float(output.macs_B.mean())
    return Subject(candidate, net, knobs, rates, Ran.of(output), macs, pixels)


def _thresholds(net: DynamicNet, pixels: Tensor) -> tuple[float, ...]:
    output = net.run(pixels, Knobs(policy="always_on", exit_rule="every"))
    assert output.exits is not None
    sure = [one.softmax(1).amax(1) for one in output.exits.logits[:-1]]
    return tuple(float(one.quantile(LEAVE)) for one in sure)


def timed(
    subjects: list[Subject],
    runs: list[list[Run]],
    seconds: float,
    clock: Callable[[], float],
    more: Iterable[Unit] = (),
) -> tuple[LatencyTable, list[float]]:
    """The table of all their units and `more`, and the milliseconds of each list of runs, mean over its images."""
    units = {u.key: u for one in subjects for u in units_of(copy.deepcopy(one.net))}
    units |= {u.key: u for u in more}
    wholes = {}
    for one in subjects:
        baseline = one.candidate.baseline().build(one.net.task, 0).eval().requires_grad_(False)
        parts = units_of(baseline)
        static = whole_unit(baseline, parts)
        units |= {unit.key: unit for unit in (*parts, static)}
        wholes[static.key] = list(static.parts)
    programs = {CALL: empty_program(), BRANCH: branch_program()}
    programs |= {key: unit_program(unit) for key, unit in units.items()}
    alone = [session_run(p.SerializeToString(), 1, PROVIDERS["cpu"]) for p in programs.values()]
    with timing():
        times = interleaved([*alone, *(r for own in runs for r in own)], seconds, clock=clock)
    found = dict(zip(programs, times, strict=False))
    words = {key: unit.words for key, unit in units.items()}
    table = LatencyTable(
        **setting("onnxruntime", "cpu", 1, 1, {}),
        units={key: Timed(unit=words.get(key, key), **one) for key, one in found.items()},
        wholes=wholes,
    )
    medians = iter([one["median"] for one in times[len(alone) :]])
    return table, [sum(next(medians) for _ in own) / len(own) for own in runs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", type=int, default=30)
    parser.add_argument("--side", type=int, default=32, help="pixels on a side of the images")
    parser.add_argument("--images", type=int, default=8, help="that each network is timed on")
    parser.add_argument("--seconds", type=float, default=120, help="about how long all are timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="of the thread that runs, for a machine that is busy",
    )
    parser.add_argument(
        "--family", action="append", default=[], help="only this one; again for more"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    task = Task(channels=3, height=asked.side, width=asked.side, classes=10)
    drawn = _built(candidates(asked.seed, asked.family), task, asked.images)
    subjects = list(islice(drawn, asked.nets))
    clock = time.thread_time if asked.cpu_time else time.perf_counter
    runs = [runs_of(ship(s.net, s.knobs, s.rates), s.pixels) for s in subjects]
    table, measured = timed(subjects, runs, asked.seconds, clock)
    predicted = [
        float(NetLatency(s.net, table).of(s.knobs, s.rates, s.ran).mean()) for s in subjects
    ]
    for one, said, took in zip(subjects, predicted, measured, strict=True):
        name = one.candidate.family.name
        print(
            f"{name:16} {one.macs / 1e6:8.2f} M MACs  {took:7.3f} ms  predicted {said:7.3f}  {said / took:.2f}"
        )
    errors = np.abs(np.array(predicted) / measured - 1)
    ranks = spearmanr(predicted, measured).statistic
    by_macs = spearmanr([s.macs for s in subjects], measured).statistic
    print(
        f"{len(subjects)} networks: median error {np.median(errors):.1%}, 90 % within {np.quantile(errors, 0.9):.1%}"
    )
    print(f"rank correlation with measured time: predicted {ranks:.3f}, MACs {by_macs:.3f}")


def _built(drawn: Iterator[Candidate], task: Task, images: int) -> Iterator[Subject]:
    for candidate in drawn:
        try:
            pixels = torch.rand(images, task.channels, task.height, task.width)
            found = subject(candidate, task, pixels)
        except ValueError:
            continue
        print(f"built {candidate.family.name}", flush=True)
        yield found


if __name__ == "__main__":
    main()
