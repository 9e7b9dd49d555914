"""Jobs that one process trains: which of them can train as one, and what happens to each."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence

import torch

from search.run.gpu_room import WHOLE
from search.run.job import Event, Job, Rung, Waits
from search.run.worker import events
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.trunk import is_frozen
from trainers.fused import Fused, recipe_fuses
from trainers.latency import torch_threads

FLOAT16 = "float16"
Group = Generator[tuple[Job, Event], bool | None, None]


def kind_of(job: Job) -> Hashable | None:
    """Equal for jobs that can train as one; None for one that trains with no other."""
    special = job.alone or job.apart or job.reached or job.teacher or job.micro_batch
    special = special or job.gpu_bytes >= WHOLE  # it is to have a GPU to itself
    if special or job.compile or job.gpus > 1 or is_frozen(job.params):
        return None
    if FLOAT16 in (job.precision, (job.execution or {}).get("dtype")):
        return None  # the factor of its losses is each training's own
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    if candidate.likeness is None or not recipe_fuses(candidate.recipe):
        return None
    execution = None if job.execution is None else tuple(sorted(job.execution.items()))
    where = job.device, job.precision, execution, job.gpu_memory
    return candidate.likeness, job.data, where, (job.threads, job.most_threads)


def events_together(jobs: Sequence[Job]) -> Group:
    """What `search.run.worker.events` yields of each job; those of one kind train as one.

    After a Rung, send whether that job goes on.
    """
    fused = Fused() if len(jobs) > 1 else None
    running = [(job, events(job, fused)) for job in jobs]
    # each sets its own, and the first that ends is not the first that began
    with torch_threads(torch.get_num_threads()):
        while running:
            waiting = []
            for job, found in running:
                if (yield from _until_it_waits(job, found)):
                    waiting.append((job, found))
            running = waiting


def _until_it_waits(
    job: Job, found: Generator[Event, None, None]
) -> Generator[tuple[Job, Event], bool | None, bool]:
    """What happens until its next epoch is to be trained with others; False at its end."""
    for event in found:
        if isinstance(event, Waits):
            return True
        goes_on = yield job, event
        if isinstance(event, Rung) and not goes_on:
            found.close()  # with it goes its network
            return False
    return False
