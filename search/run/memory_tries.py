"""Trainings that ran out of memory: tried again alone, then with half the images in memory at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from search.run.job import Failure, Job
from search.schedule.decisions import Start
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.records import Kind

FEWEST = 2  # images at once: batch norm needs more than one
Training = tuple[Kind, int]


@dataclass
class MemoryTries:
    """What trainings of a session were given after they ran out of memory.

    `shares_device`, `shares_machine`: whether others train beside them there. The gradients of the parts of a batch add
    up, so with half the images at once it is the same training, but for batch norm.
    """

    shares_device: bool = False
    shares_machine: bool = False
    waiting: deque[Start] = field(default_factory=deque)  # until nothing else trains
    _alone: set[Training] = field(default_factory=set)
    _images: dict[Training, int] = field(default_factory=dict)  # in memory at once

    def adapted(self, job: Job) -> Job:
        """The job as it is to be trained now."""
        return replace(job, micro_batch=self._images.get(job.name, job.micro_batch))

    def is_alone(self, name: Training) -> bool:
        """Whether nothing else may train beside it."""
        return name in self._alone

    def again(self, job: Job, failure: Failure, start: Start) -> str | None:
        """Why it may go better when it starts again, in words; None when there is nothing left to try.

        One that has to be alone is in `waiting` then.
        """
        shares = self.shares_machine if failure.crashed else self.shares_device
        if shares and job.name not in self._alone:
            self._alone.add(job.name)
            self.waiting.append(start)
            return "it is tried again alone, once the others have ended"
        now = images_at_once(job)
        half = -(-now // 2)
        if job.name in self._images or half < FEWEST:
            return None
        self._images[job.name] = half
        if job.name in self._alone:
            self.waiting.append(start)
        return f"it is tried again with {half} images in memory at once in place of {now}"

    def told(self, job: Job, failure: Failure) -> Failure:
        """The failure, with what was tried in vain."""
        tried = ["alone"] if job.name in self._alone else []
        if job.name in self._images:
            tried.append(f"with {self._images[job.name]} images in memory at once")
        if not tried or not failure.memory:
            return failure
        return replace(failure, error=f"{failure.error} (also {' and '.join(tried)})")


def images_at_once(job: Job) -> int:
    """How many images of a batch the job has in memory at once."""
    if job.micro_batch:
        return job.micro_batch
    recipe = Candidate.of(family(job.family), job.params, job.epochs).recipe
    return recipe.micro_batch or max(1, recipe.batch // job.gpus)
