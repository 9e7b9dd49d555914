"""What trains on a node of a Ray cluster: an actor that holds one place, and trains one job after the other.

The training itself runs in a process that the actor starts, as a worker process on a single machine does: a crash, a
hang or too much memory is found and told by the same code, and the actor lives on.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from search.logs import show_logs
from search.run.job import Event, Job
from search.run.local_processes import LocalProcesses, events_until_the_end
from search.run.watch import TrialLimits

if TYPE_CHECKING:
    from search.run.number_formats import Probe
    from spaces.contract.task import Task
    from trainers.execution import Execution

NOT_SET = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
TICK = 1.0  # seconds that the actor waits for an event at once
LONGEST_PATH = 107  # bytes, of a socket
SOCKET = "/pymp-12345678/listener-12345678"  # of the processes that an actor starts


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: Ray's id of it, and the name that people know it by.

    `missing` is the folder of the search where the machine does not have it.
    """

    id: str
    name: str
    missing: str = ""


def here(folder: str) -> Node:
    """The machine that this process runs on, for a search in this folder. Call it on a cluster."""
    import ray

    name = ray.util.get_node_ip_address()
    missing = "" if Path(folder).is_dir() else folder
    return Node(ray.get_runtime_context().get_node_id(), name, missing)


def leave_nothing() -> None:
    """Sockets of what this actor starts lie in the folder of Ray's session: Ray ends actors without a word."""
    from ray._private import worker

    node: Any = worker._global_node
    folder = node.get_session_dir_path()
    if len(os.fsencode(folder + SOCKET)) <= LONGEST_PATH:
        tempfile.tempdir = folder


def see_own_gpus(ids: Sequence[int | str]) -> None:
    """Let this process see the GPUs that Ray has given it, and none of those that its node may have for others.

    Ray does so too, unless it has given none, or the cluster forbids it.
    """
    if not ids or NOT_SET in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, ids))


class Trainer:
    """Trains jobs in a process of its own. `folder` is the driver's, from which paths count.

    Four threads call it: one trains, one brings answers, one says nothing as long as it lives, and the next job may
    come before the last one's thread has ended.
    """

    def __init__(self, limits: TrialLimits, gpus: int, folder: str, verbosity: int) -> None:
        import ray

        show_logs(verbosity)
        leave_nothing()
        see_own_gpus(ray.get_gpu_ids())
        self._node = here(folder)
        if not self._node.missing:
            os.chdir(folder)
        self._engine = LocalProcesses(1, limits, gpus)
        self._probe: Probe | None = None
        self._one_job = threading.Lock()
        self._answers: SimpleQueue[bool] = SimpleQueue()

    def node(self) -> Node:
        """Where it is."""
        return self._node

    def hold(self) -> None:
        """Never returns: whoever waits for it learns that this process is gone."""
        threading.Event().wait()

    def device(self, asked: str) -> str:
        """The device that a job which asks for this one trains on."""
        there = "cuda" if os.environ.get("CUDA_VISIBLE_DEVICES") else "cpu"
        return there if asked == "auto" else asked

    def device_name(self, device: str) -> str:
        """See `search.run.number_formats.Probe`."""
        return self._formats().device_name(device)

    def fastest(
        self, job: Job, task: Task, without: tuple[Execution, ...]
    ) -> tuple[Execution, bool]:
        """The fastest format, and False; or what took the measuring process down, and True."""
        from search.run.number_formats import CrashedError

        try:
            return self._formats().fastest(job, task, without), False
        except CrashedError as error:
            return error.tried, True

    def _formats(self) -> Probe:
        from search.run.number_formats import Probe  # which needs PyTorch

        if self._probe is None:
            self._probe = Probe()
        return self._probe

    def train(self, job: Job) -> Iterator[Event]:
        """What `search.run.worker.events` yields; after a Rung it waits for `answer`.

        Without the folder it trains nothing: the driver gives the place back, and the job to another one.
        """
        if self._node.missing:
            self.hold()
        with self._one_job:
            self._engine.submit(job)
            yield from events_until_the_end(self._engine, job, TICK, self._answers.get)

    def answer(self, go_on: bool) -> None:
        """Let the training that waits at a rung go on, or end it."""
        self._answers.put(go_on)
