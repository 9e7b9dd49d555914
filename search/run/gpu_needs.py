"""How much of a GPU's memory a training of each size needs: measured once for a study on a kind of GPU, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from search.report.text import network_text
from search.run.data import load_data, task_of
from search.run.engine import StudyEngine
from search.run.gpu_room import WHOLE
from search.run.job import Job
from search.run.local_processes import LocalProcesses
from search.run.number_formats import NumberFormats, Probe, size_of
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.contract.trunk import is_frozen
from storage.formats import Formats
from trainers.data.pixels import DEVICE_SHARE, HeldPixels
from trainers.data.splits import ImageData
from trainers.evaluate import BATCH
from trainers.execution import Execution
from trainers.fit import fit
from trainers.frozen import frozen_data
from trainers.memory import leave_gpu

MARGIN = 1.1  # times what was measured: no two trainings leave the same gaps between their tensors
BYTES = "bytes"
STEPS = 2  # batches: the second has the optimizer's state beside it


class Measures(Protocol):
    """What measures where the engine trains."""

    def device(self, asked: str) -> str: ...

    def device_name(self, device: str) -> str: ...

    def gpu_peak(self, job: Job) -> int | None:
        """Bytes that the tensors of the job's training take at most; None where it did not end well."""
        ...


def measuring_for(engine: StudyEngine, formats: NumberFormats) -> Callable[[Job], Job]:
    """What gives a job all that is measured of its size, on this engine; that ends what measures when it has to."""
    if not isinstance(engine, LocalProcesses) or engine.room is None:
        return formats.of
    assert isinstance(formats.probe, Probe)
    engine.end_with_mps(formats.close)
    overhead = engine.room.overhead
    needs = GpuNeeds(
        formats.formats, formats.study, formats.task, formats.probe, overhead, formats.doing
    )
    return lambda job: needs.of(formats.of(job))


@dataclass
class GpuNeeds:
    """Tells each job of a study what it needs of a GPU. `overhead` is what its process takes beside its tensors."""

    formats: Formats
    study: str
    task: Callable[[], Task]
    probe: Measures
    overhead: Callable[[], int]
    doing: Callable[[str], None] = lambda what: None

    def of(self, job: Job) -> Job:
        """The job with the bytes that it needs; the whole GPU where that could not be measured this time."""
        beside = self.overhead()
        device = self.probe.device(job.device)
        name, size = self.probe.device_name(device), _memory_size(job, self.task(), device)
        if (known := self.formats.chosen(self.study, name, size)) is None:
            network = network_text(job.family, job.params)
            self.doing(f"measuring the GPU memory of a training, once for each size: {network}")
            if (peak := self.probe.gpu_peak(job)) is None:
                return replace(job, gpu_bytes=WHOLE)
            known = {BYTES: peak}
            self.formats.choose(self.study, name, size, known)
        needed = round(MARGIN * known[BYTES])
        if job.gpu_memory is not None:
            needed = min(needed, job.gpu_memory)
        return replace(job, gpu_bytes=needed + beside)


def _memory_size(job: Job, task: Task, device: str) -> str:
    """What decides how much memory a training takes: its size, what learns, and what it keeps beside the weights."""
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    recipe, net = candidate.recipe, candidate.outline(task)
    parts = [f"{sum(p.numel() for p in net.parameters())} parameters", recipe.optimizer]
    parts += ["no momentum"] * (recipe.optimizer == "sgd" and not recipe.momentum)
    parts += ["frozen trunk"] * is_frozen(job.params)
    parts += ["taught"] * (recipe.distill > 0)
    parts += ["averaged"] * (recipe.ema > 0)
    parts += ["best kept"] * (recipe.kept_epoch != "last")
    parts += [f"{recipe.micro_batch} images at once"] * (recipe.micro_batch > 0)
    return f"memory of {', '.join(parts)}, {size_of(job, task, device)}"[:1000]


def peak_bytes(job: Job, device: str) -> int:
    """Bytes that PyTorch holds of this GPU at most while the job trains two batches and measures one, and all images.

    Real steps at the real batch, with the optimizer's state and the teacher, if it has one.
    """
    leave_gpu()
    torch.cuda.reset_peak_memory_stats(device)
    train_a_little(job, device)
    steps = int(torch.cuda.max_memory_reserved(device))
    return steps + held_bytes(load_data(job.data), torch.cuda.mem_get_info(device)[1])


def held_bytes(data: ImageData, total: int) -> int:
    """Bytes of the images that a training keeps on a GPU of so many, if much of it is free."""
    sizes = [
        one.pixels.nbytes
        for one in (data.train, data.validation)
        if isinstance(one.pixels, HeldPixels)
    ]
    return sum(nbytes for nbytes in sizes if nbytes <= DEVICE_SHARE * total)


def train_a_little(job: Job, device: str) -> None:
    """Two batches, twice, and as many validation images as are measured at a time."""
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    whole = load_data(job.data)
    batch = min(candidate.recipe.batch, len(whole.train))
    train, validation = whole.train.some(STEPS * batch), whole.validation.some(BATCH)
    few = replace(whole, train=train, validation=validation)
    execution = replace(Execution(**(job.execution or {})), device=device, threads=0)
    if job.precision != "auto":
        execution = replace(execution, dtype=job.precision)
    try:
        task = task_of(whole)
        net, recipe = candidate.build(task, 0), replace(candidate.recipe, epochs=2)
        teacher = candidate.baseline().build(task, 0) if recipe.distill else None
        rows = frozen_data(net, few, views=1, files=None, execution=execution)
        for _ in fit(net, rows or few, recipe, execution=execution, teacher=teacher):
            pass
    finally:
        few.release()
