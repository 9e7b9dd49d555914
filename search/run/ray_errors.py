"""What Ray's errors mean: what of a cluster is lost, and why. Decided by their types; what they say comes second."""

from __future__ import annotations

NODE_DIED = "node has died"  # in an ActorDiedError, which has no type for its cause
LOW_ON_MEMORY = "low on memory"


def place_is_lost(error: Exception) -> bool:
    """Whether an error of a call is one of its actor, process or node; else the call itself has raised it."""
    from ray.exceptions import RayError, RayTaskError

    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


def out_of_memory(error: Exception) -> bool:
    """Whether Ray has ended the process before its node has no memory left."""
    from ray.exceptions import OutOfMemoryError

    return isinstance(error, OutOfMemoryError) or LOW_ON_MEMORY in str(error)


def node_died(error: Exception) -> bool:
    """Whether more than the process is lost."""
    from ray.exceptions import LocalRayletDiedError, NodeDiedError

    if isinstance(error, NodeDiedError | LocalRayletDiedError):
        return True
    return bool(getattr(error, "preempted", False)) or NODE_DIED in str(error)


def reason(error: Exception) -> str:
    """What an error says, in one line, without the traceback that Ray puts around it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # of an actor that does not start the first line is Ray's, and the last one what was raised
    return lines[-1 if getattr(error, "actor_init_failed", False) else 0].strip()
