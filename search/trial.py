"""One trial, from a description to its operating points; runs in any process and knows no database."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from spaces.family import Candidate
from spaces.net import DynamicNet, Knobs
from spaces.registry import family
from spaces.task import Task
from storage.checkpoints import Checkpoints
from storage.records import Kind, OperatingPoint
from trainers.data import DataSpec, ImageData, load
from trainers.execution import Execution, best_device, in_eights, measured
from trainers.fit import DivergedError, EpochResult, fit, net_tensors
from trainers.initial import digest, start_from

UNKNOWN = "unknown"  # weights that a training started from, once their file is gone


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs to train one candidate: plain values only, so that it can be sent anywhere.

    `epochs` are the planned ones, `rungs` those after which the network is measured to decide whether it goes on (the
    last is never one), `trained` those that the weights of an ended training have, where it was stopped.
    """

    kind: Kind
    number: int
    family: str
    params: Mapping[str, Any]
    epochs: int
    seed: int
    data: DataSpec
    checkpoints: str  # folder
    key: str  # of this trial's checkpoint
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    threads: int | None = None
    init_from: str | None = None
    rungs: tuple[int, ...] = ()
    trained: int | None = None

    @property
    def name(self) -> tuple[Kind, int]:
        return self.kind, self.number


@dataclass(frozen=True)
class Rung:
    """A training after an epoch that may be its last: a few operating points, what an Outcome says, seconds so far.

    `outlook` is compute at the end of the training over compute now, at least, as its objective foresees it; None
    when it cannot say yet.
    """

    epoch: int
    points: list[OperatingPoint]
    outlook: float | None
    parameters: int
    plain_macs: int
    execution: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """A finished training: operating points (the first represents it), network size, execution, seconds.

    `inspection` is what the network does with images, see search.inspection.
    """

    points: list[OperatingPoint]
    parameters: int
    plain_macs: int
    execution: dict[str, Any]
    seconds: float
    inspection: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A training that ended without a result; `crashed` when its process died rather than raised."""

    error: str
    epoch: int | None
    trace: str
    crashed: bool = False


Event = EpochResult | Rung | Outcome | Failure


@dataclass(frozen=True)
class Slot:
    """One trial's place among the checkpoints.

    `identity` says what was trained on what; a checkpoint of something else that lies in this place is not loaded.
    """

    checkpoints: Checkpoints
    key: str
    identity: dict[str, Any]
    defaults: Mapping[str, Any]  # of the family's dimensions

    @classmethod
    def of(cls, job: Job, candidate: Candidate) -> Slot:
        data = {name: value for name, value in asdict(job.data).items() if name != "root"}
        identity = {
            "family": candidate.family.name,
            "epochs": candidate.recipe.epochs,
            "params": candidate.params,
            "seed": job.seed,
            "data": data,
            "init": digest(job.init_from) or UNKNOWN if job.init_from else None,
        }
        defaults = {dimension.name: dimension.default for dimension in candidate.family.space}
        return cls(Checkpoints(Path(job.checkpoints)), job.key, json.loads(json.dumps(identity)), defaults)

    def save(self, tensors: dict[str, Any], state: dict[str, Any]) -> None:
        self.checkpoints.save(self.key, tensors, state | {"identity": self.identity})

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        found = self.checkpoints.load(self.key)
        return found if found and self._same(found[1].get("identity")) else None

    def _same(self, saved: Any) -> bool:
        """Whether a checkpoint is this trial's. A dimension that a later version added counts with its default."""
        if not isinstance(saved, dict):
            return False
        now, then = dict(self.identity), dict(saved)
        starts = (now.pop("init"), then.pop("init", None))
        if starts[0] != starts[1] and UNKNOWN not in starts:
            return False
        ours, theirs = now.pop("params"), then.pop("params", {})
        known = all(name in ours and ours[name] == value for name, value in theirs.items())
        added = all(value == self.defaults.get(name) for name, value in ours.items() if name not in theirs)
        return now == then and known and added


def events(job: Job) -> Generator[Event, None, None]:
    """Train the job, yielding each epoch, rungs, and at last an Outcome or a Failure. Resumes from its checkpoint.

    Whoever asks for more after a Rung lets the training go on, whoever closes the generator has stopped it.
    """
    started, epoch = time.perf_counter(), 0
    try:
        for event in _trained(job, started):
            epoch = event.epoch if isinstance(event, EpochResult) else epoch
            yield event
    except DivergedError as error:
        yield Failure(str(error), error.epoch, "")
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        yield Failure(reason, epoch + 1, traceback.format_exc())


def _trained(job: Job, started: float) -> Iterator[Event]:
    if job.threads:
        import torch

        torch.set_num_threads(job.threads)
    data = loaded(job.data)
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    net = initialised(job, candidate, task_of(data))
    slot = Slot.of(job, candidate)
    execution = _execution(job, net, candidate, slot)
    for result in fit(net, data, candidate.recipe, seed=job.seed, execution=execution, slot=slot):
        yield result
        if result.epoch in job.rungs:
            yield Rung(
                result.epoch,
                rung_points(net, data, candidate, execution, job.seed),
                result.metrics.get("objective/outlook"),
                sum(p.numel() for p in net.parameters()),
                net.plain_macs,
                execution.as_dict(),
                time.perf_counter() - started,
            )
    from search.operating_points import operating_points

    points = operating_points(
        net,
        data,
        batch=candidate.recipe.batch,
        execution=execution,
        seed=job.seed,
        augment=candidate.recipe.augment,
    )
    looked = _looked_into(net, data, points[0], execution, job.seed)
    yield Outcome(
        points,
        sum(p.numel() for p in net.parameters()),
        net.plain_macs,
        execution.as_dict(),
        time.perf_counter() - started,
        looked,
    )


def rung_points(
    net: DynamicNet, data: ImageData, candidate: Candidate, execution: Execution, seed: int
) -> list[OperatingPoint]:
    """The few operating points that trials are compared by before their trainings are over."""
    from search.operating_points import operating_points

    recipe = candidate.recipe
    return operating_points(
        net, data, batch=recipe.batch, execution=execution, seed=seed, augment=recipe.augment, quick=True
    )


def _looked_into(
    net: DynamicNet, data: ImageData, point: OperatingPoint, execution: Execution, seed: int
) -> dict[str, Any]:
    """What there is to show of the network at one of its points; `error` where that fails, for its points count."""
    from search.inspection.forward_pass import QUICK
    from search.inspection.measures import inspected

    try:
        knobs, rates = Knobs(**point.knobs), point.extra["rates"]
        return inspected(net, data, knobs, rates=rates, execution=execution, seed=seed, effort=QUICK).as_dict()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def initialised(job: Job, candidate: Candidate, task: Task) -> DynamicNet:
    """The network before its first step: random weights, or those that the job starts from. Raises ValueError."""
    net = candidate.build(task, job.seed)
    if job.init_from:
        import torch

        with torch.device("meta"):
            plain = candidate.family.build(candidate.plain().config, task)
        start_from(net, job.init_from, plain.state_dict())
    return net


def _execution(job: Job, net: DynamicNet, candidate: Candidate, slot: Slot) -> Execution:
    """Number format and layout as the checkpoint was trained, else as asked for, else the fastest as measured."""
    device = best_device() if job.device == "auto" else job.device
    saved = slot.load()
    if saved:
        known = replace(Execution(**saved[1]["execution"]), device=device, compile=job.compile)
        return known if device != "cpu" or in_eights(net) else replace(known, channels_last=False)
    if job.precision != "auto":
        return Execution(device=device, dtype=job.precision, compile=job.compile)
    size = (candidate.config, candidate.recipe.batch, net.task)
    return replace(_measured(device, candidate, size), compile=job.compile)


_KNOWN: dict[Any, Execution] = {}


def _measured(device: str, candidate: Candidate, size: Any) -> Execution:
    # the format that wins hangs on the shapes, not on gates or losses: measure each shape once a process
    config, batch, task = size
    names = candidate.family.size_dimensions
    net = candidate.build(task, 0)
    key = (device, candidate.family.name, tuple(getattr(config, n) for n in names), batch, task, in_eights(net))
    if key not in _KNOWN:
        _KNOWN[key] = measured(net, candidate.recipe, device)
    return _KNOWN[key]


@lru_cache(maxsize=2)
def loaded(spec: DataSpec) -> ImageData:
    """The data set, read once a process."""
    return load(spec)


def task_of(data: ImageData) -> Task:
    """What a network for this data must take and give."""
    return Task(
        channels=data.channels,
        height=data.height,
        width=data.width,
        classes=len(data.classes),
        mean=tuple(data.mean),
        std=tuple(data.std),
    )


def trained_net(job: Job) -> tuple[DynamicNet, Candidate, ImageData]:
    """The network of an ended training with the weights that it was measured with.

    Raises ValueError when its checkpoint is gone or of another epoch.
    """
    data = loaded(job.data)
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    net = candidate.build(task_of(data), job.seed)
    saved = Slot.of(job, candidate).load()
    if saved is None:
        raise ValueError(
            f"the checkpoint of trial {job.number} is missing in {job.checkpoints}; was it deleted or made elsewhere?"
        )
    wanted, found = job.trained or job.epochs, saved[1]["epochs_done"]
    if found != wanted:
        raise ValueError(
            f"the checkpoint of trial {job.number} holds epoch {found}, its points were measured after epoch {wanted}; "
            "search the study to its end, or choose another trial's point"
        )
    net.load_state_dict(net_tensors(saved[0]))
    return net.eval(), candidate, data


def data_spec(values: Any) -> DataSpec:
    """The data that a StudySpec asks for."""
    return DataSpec(
        source=values.data,
        root=values.data_root or os.environ.get("DYNAFRONT_DATA"),
        validation=values.validation,
        train_limit=values.train_limit,
        validation_limit=values.validation_limit,
        image_size=values.image_size,
        seed=values.seed,
    )
