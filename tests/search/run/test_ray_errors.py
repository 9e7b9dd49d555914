"""What Ray's errors mean, of the types that Ray raises."""

from __future__ import annotations

import pickle

import pytest

pytest.importorskip("ray")
from ray.core.generated.common_pb2 import ActorDiedErrorContext  # type: ignore[attr-defined]
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)

from search.run.ray_errors import node_died, out_of_memory, place_is_lost, reason


def died(message: str) -> ActorDiedError:
    """As Ray makes it of what it knows of the death of an actor."""
    context = ActorDiedErrorContext(
        class_name="Trainer", actor_id=bytes(16), error_message=message, node_ip_address="10.0.0.7"
    )
    return ActorDiedError(context)


def raised(error: Exception) -> RayTaskError:
    text = f"ray::Trainer.__init__() (pid=7)\n  File ...\n{type(error).__name__}: {error}"
    return RayTaskError("__init__", text, error, proctitle="ray::Trainer", ip="10.0.0.7")


KILLED = "1 worker(s) were killed due to the node running low on memory.\nOOM kill reason: ..."


@pytest.mark.parametrize(
    ("error", "lost", "memory", "node"),
    [
        (pickle.loads(pickle.dumps(OutOfMemoryError("killed"))), True, True, False),
        (pickle.loads(pickle.dumps(NodeDiedError("gone"))), True, False, True),
        (LocalRayletDiedError(), True, False, True),
        (WorkerCrashedError(), True, False, False),
        (ActorUnavailableError("Socket closed", None), True, False, False),
        (died("The actor died because its node has died. Node Id: ab12"), True, False, True),
        (died("Worker exits unexpectedly. Worker exits with exit code 1."), True, False, False),
        (died(KILLED), True, True, False),
        (raised(ValueError("wrong")).make_dual_exception_instance(), False, False, False),
        (KeyError("anything else"), False, False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_is_lost_is_told_by_type_then_by_text(
    error: Exception, lost: bool, memory: bool, node: bool
) -> None:
    assert (place_is_lost(error), out_of_memory(error), node_died(error)) == (lost, memory, node)


def test_the_reason_is_one_line_and_what_was_raised_where_an_actor_does_not_start() -> None:
    assert reason(OutOfMemoryError(KILLED)) == KILLED.splitlines()[0]
    assert reason(ValueError()) == "ValueError"
    failed = ActorDiedError.from_task_error(raised(ModuleNotFoundError("No module named 'search'")))
    assert str(failed).startswith("The actor died because of an error raised in its creation task")
    assert reason(failed) == "ModuleNotFoundError: No module named 'search'"
