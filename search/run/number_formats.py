"""Number format and threads of each size of network: measured once for a study on a device, then as found there.

They are measured in a process of its own. A format that takes that process down twice, or does not end in time, is
remembered and not tried again on this kind of device at this size; the others are measured without it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import torch

from search.report.text import network_text
from search.run.giving_up import HopelessError
from search.run.job import Job
from search.run.local_processes import names_gpu_fault
from search.run.worker_process import workers_context
from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.contract.trunk import is_frozen
from storage.formats import Formats
from trainers.data.processes import end_with_parent
from trainers.execution import (
    Execution,
    best_device,
    measured,
    options,
    random_images,
    whole_vectors,
)
from trainers.latency import torch_threads
from trainers.memory import is_out_of_memory, leave_gpu
from trainers.thread_choice import measured_threads
from trainers.wrong_results import wrong_operations

logger = logging.getLogger(f"dynafront.{__name__}")

PATIENCE = 300.0  # seconds that measuring a size may take without a word
TRIES = 2  # a process that shares its GPU may end by the fault of another one


class CrashedError(RuntimeError):
    """The process that measured is gone, or silent; says what it tried last."""

    def __init__(self, tried: Execution) -> None:
        super().__init__(f"{tried} took its process down")
        self.tried = tried


class Measures(Protocol):
    """What measures formats, wherever trials are trained."""

    def device(self, asked: str) -> str:
        """The device that a job which asks for this one trains on."""
        ...

    def device_name(self, device: str) -> str:
        """The kind of the device."""
        ...

    def fastest(self, job: Job, task: Task, without: Sequence[Execution]) -> Execution:
        """The fastest format for the job's network, of all but those, and its threads. Raises CrashedError."""
        ...

    def close(self) -> None: ...


class Probe:
    """A process that measures formats; started when it is needed first, and again after a crash.

    `serve` is what it does with its end of a pipe.
    """

    def __init__(self, serve: Callable[[Connection], None] | None = None) -> None:
        self._serve = serve or _serve
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def device(self, asked: str) -> str:
        """The device that a job which asks for this one trains on."""
        return best_device() if asked == "auto" else asked

    def device_name(self, device: str) -> str:
        """The kind of the device. Raises HopelessError where it does not say it.

        A GPU is asked over there: a process that has used one keeps some of its memory.
        """
        if device == "cpu":
            return cpu_name()
        for _ in range(TRIES):
            if (name := self._answer(device)) is not None:
                return str(name)
        raise HopelessError(
            f"the process that measures networks on {device} ends, or does not answer: does the GPU work? "
            "Search again to go on"
        )

    def fastest(self, job: Job, task: Task, without: Sequence[Execution]) -> Execution:
        """The fastest format for the job's network, of all but those, and its threads. Raises CrashedError."""
        device = self.device(job.device)
        tried = Execution(device=device)
        try:
            self._send((job, task, tuple(without)))
            assert self._pipe is not None
            while self._pipe.poll(PATIENCE):
                tried, chosen = self._pipe.recv()
                if chosen:
                    return tried
        except (EOFError, OSError):
            pass
        self.close()
        raise CrashedError(tried)

    def gpu_peak(self, job: Job) -> int | None:
        """Bytes that the tensors of the job's training take of a GPU at most; None where it did not end well."""
        found: int | None = self._answer(job)
        return found

    def start(self) -> None:
        """Start the process now, so that it is ready when it is needed."""
        if self._process is not None and self._process.is_alive():
            return
        context = workers_context()
        self._pipe, there = context.Pipe()
        arguments = self._serve, there, dict(os.environ)
        # not daemonic: a daemon may not start the processes that stream a large data set
        self._process = context.Process(target=_begin, args=arguments)  # type: ignore[attr-defined]
        self._process.start()
        there.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _answer(self, message: object) -> Any:
        """What the process says to it; None, and the next one is asked in its place, where it is gone or silent."""
        try:
            self._send(message)
            assert self._pipe is not None
            if self._pipe.poll(PATIENCE):
                return self._pipe.recv()
        except (EOFError, OSError) as error:
            logger.warning("the process that measures is gone: %r", error)
        self.close()
        return None

    def _send(self, message: object) -> None:
        self.start()
        assert self._pipe is not None
        self._pipe.send(message)


def _begin(
    serve: Callable[[Connection], None], pipe: Connection, environment: dict[str, str]
) -> None:
    os.environ.update(environment)  # as it is now: where MPS is, for example
    serve(pipe)


def _serve(pipe: Connection) -> None:
    end_with_parent()
    # Ctrl-C reaches the whole group; the driver decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        if isinstance(message, str):
            pipe.send(f"{torch.cuda.get_device_name(message)}, torch {torch.__version__}"[:200])
            continue
        if isinstance(message, Job):
            pipe.send(_peak(message))
            continue
        job, task, without = message
        chosen = _fastest(job, task, without, lambda tried: pipe.send((tried, False)))
        leave_gpu()
        pipe.send((chosen, True))


def _peak(job: Job) -> int | None:
    """See `search.run.gpu_needs`. Its memory may be others' at the moment; what else is wrong, a trial says itself."""
    from search.run.gpu_needs import peak_bytes  # which imports this

    try:
        found = peak_bytes(job, best_device())
    except (RuntimeError, ValueError, OSError) as error:
        logger.warning("the memory of a training could not be measured", exc_info=error)
        if names_gpu_fault(str(error)) and not is_out_of_memory(error):
            sys.exit(1)  # CUDA does nothing more in this process
        found = None
    leave_gpu()
    return found


def _fastest(
    job: Job, task: Task, without: Sequence[Execution], trying: Callable[[Execution], None]
) -> Execution:
    """The threads with which the network is fastest in plain float32, or as asked for, then its format with these."""
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    device = best_device() if job.device == "auto" else job.device
    recipe = replace(candidate.recipe, batch=max(1, candidate.recipe.batch // job.gpus))
    net, threads = candidate.build(task, 0), 0
    found = _as_asked(job, device)
    if threads_are_measured(job, device):
        threads = measured_threads(
            net, recipe, found, job.most_threads, trying=lambda: trying(found)
        )
    with torch_threads(threads or job.threads or torch.get_num_threads()):
        if job.precision == "auto":
            out = {*without, *_wrong(net, recipe, device, without, trying)}
            found = measured(net, recipe, device, without=out, trying=trying)
    return replace(found, threads=threads)


def _as_asked(job: Job, device: str) -> Execution:
    """Float32 where the format is to be measured."""
    return Execution(device=device, dtype="float32" if job.precision == "auto" else job.precision)


def threads_are_measured(job: Job, device: str) -> bool:
    """Whether there is a choice, and it counts: what a GPU computes takes no threads."""
    return device == "cpu" and job.most_threads > 1


def _wrong(
    net: DynamicNet,
    recipe: Recipe,
    device: str,
    without: Sequence[Execution],
    trying: Callable[[Execution], None],
) -> list[Execution]:
    """Formats in which the network's steps are not computed rightly."""
    images, found = random_images(net, recipe.batch, device), []
    for execution in options(net, device):
        if execution not in without and execution.dtype != "float32":
            trying(execution)
            if wrong_operations(net, execution, images):
                found.append(execution)
    return found


@dataclass
class NumberFormats:
    """Gives each job of a study the format and threads of its size, where its file leaves the choice to measuring."""

    formats: Formats
    study: str
    task: Callable[[], Task]
    say: Callable[[str], None]
    probe: Measures = field(default_factory=Probe)
    doing: Callable[[str], None] = lambda what: None

    def of(self, job: Job) -> Job:
        """The job, with what is measured of its size. Heads on a frozen trunk train in float32, with all threads."""
        if is_frozen(job.params) or (job.precision != "auto" and job.most_threads <= 1):
            return job
        device = self.probe.device(job.device)
        if job.precision != "auto" and not threads_are_measured(job, device):
            return job
        name, size = self.probe.device_name(device), size_of(job, self.task(), device)
        known = self.formats.chosen(self.study, name, size)
        if known is None:
            network = network_text(job.family, job.params)
            self.doing(f"measuring the {_what(job, device)}, once for each size: {network}")
            known = self._measured(job, device, name, size).as_dict()
            self.formats.choose(self.study, name, size, known)
        return replace(job, execution=known | {"device": device})

    def close(self) -> None:
        self.probe.close()

    def _measured(self, job: Job, device: str, name: str, size: str) -> Execution:
        without = [Execution(**one) for one in self.formats.crashed(name, size)]
        plain, once = _as_asked(job, device), list[Execution]()
        while plain not in without:
            try:
                return self.probe.fastest(job, self.task(), without)
            except CrashedError as error:
                if error.tried not in once:  # what ended it may be the fault of another process
                    once.append(error.tried)
                    continue
                without.append(error.tried)
                self.formats.add_crash(name, size, error.tried.as_dict())
                self.say(
                    f"torch crashed with {_format_text(error.tried)} at this size; it is not used here again"
                )
        return plain


def _what(job: Job, device: str) -> str:
    """What is measured of a size, in words."""
    what = ["fastest number format"] * (job.precision == "auto")
    what += ["number of threads"] * threads_are_measured(job, device)
    return " and ".join(what)


def size_of(job: Job, task: Task, device: str = "cpu") -> str:
    """What decides which format is fastest, and which can be used: size, batch, image size, threads, what is asked."""
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    net, task = candidate.outline(task), candidate.task(task)
    parts = [f"{name} {candidate.values[name]}" for name in candidate.family.size_dimensions]
    batch = max(1, candidate.recipe.batch // job.gpus)
    parts.append(f"batch {batch} of {task.channels}x{task.height}x{task.width}")
    if threads_are_measured(job, device):
        parts.append(f"up to {job.most_threads} threads")
    else:
        parts.append(f"{job.threads or torch.get_num_threads()} threads")
    parts += [] if whole_vectors(net) else ["broken vectors"]
    parts += [] if job.precision == "auto" else [job.precision]
    return ", ".join([candidate.family.name, *parts])[:1000]


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """Model, widest instructions and torch's version: what a crash, and the fastest format, depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else "CPU"
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"[:200]


def _format_text(execution: Execution) -> str:
    return execution.dtype + (" and channels_last" if execution.channels_last else "")
