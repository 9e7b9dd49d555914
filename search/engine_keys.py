"""Which keys of `run` go with which engine, and another engine than a file names."""

from __future__ import annotations

from typing import get_args

from search.study_keys import StudySpec
from search.study_parts import EngineName, Run

OF_RAY = ("address", "cpus_per_trial", "max_trials")
OF_WORKERS = ("workers", "fused")
BOUNDS = ("trial_hours", "stall_minutes", "memory_gigabytes")  # to which a process is held
# what Ray has for programs outside of a cluster, by how its address begins
OUTSIDE = {"ray://": "proxy", "http://": "dashboard", "https://": "dashboard"}


def check_engine(run: Run, where: str) -> None:
    """Raise ValueError for a key that the engine would not read."""
    if run.uses_ray:
        if _is_given(run, "workers"):
            raise ValueError(
                f"{where}: run.workers: is not read with engine: ray; write max_trials"
            )
        if _is_given(run, "fused"):
            raise ValueError(f"{where}: run.fused: needs engine: local; leave it out")
        if run.gpus_per_trial < 1 and run.device == "cpu":
            raise ValueError(
                f"{where}: run.gpus_per_trial: {run.gpus_per_trial:g} is not read with device: cpu; leave it out"
            )
        check_inside(run.address, f"{where}: run.address", "leave address out")
        return
    if run.gpus_per_trial < 1:
        raise ValueError(
            f"{where}: run.gpus_per_trial: {run.gpus_per_trial:g}, a share of a GPU, needs engine: ray; without it "
            "several workers share a GPU once there are more of them than GPUs"
        )
    if run.fused > 1 and (run.compile or run.gpus_per_trial > 1):
        other = "compile: true" if run.compile else f"gpus_per_trial: {run.gpus_per_trial:g}"
        raise ValueError(f"{where}: run.fused: {run.fused} does not go with {other}; leave one out")
    for name in OF_RAY:
        if _is_given(run, name):
            raise ValueError(f"{where}: run.{name}: needs engine: ray")


def check_workers(run: Run, workers: int) -> None:
    """Raise ValueError for a key that does not go with 0 workers, which train in the search's own process."""
    if workers or run.uses_ray:
        return
    if run.fused > 1:
        raise ValueError(
            f"run.fused: {run.fused}: with 0 workers trials train one after the other; take 1 or more, or leave it out"
        )
    for name in BOUNDS:
        if _is_given(run, name):
            raise ValueError(
                f"run.{name}: with 0 workers no process of a training can be ended; take 1 or more, or leave it out"
            )


def check_inside(address: str, key: str, fix: str) -> None:
    """Raise ValueError for an address that is not of a cluster itself; `fix` says what to do with the key."""
    for beginning, what in OUTSIDE.items():
        if address.startswith(beginning):
            raise ValueError(
                f"{key}: {address} is Ray's {what} for programs outside of a cluster; start the search on a machine "
                f"of the cluster, such as with `ray job submit`, and {fix}"
            )


def on_engine(spec: StudySpec, engine: EngineName | None, workers: int | None) -> StudySpec:
    """The spec on this engine in place of its file's, whose own keys hold no more; None: as the file says.

    Raises ValueError, also where `workers` were asked for of an engine that has none.
    """
    if engine is not None and engine not in get_args(EngineName):
        raise ValueError(
            f"engine: {engine!r} is none; choose from {', '.join(get_args(EngineName))}"
        )
    if engine is not None and engine != spec.run.engine:
        others = OF_WORKERS if engine == "ray" else OF_RAY
        fields = Run.model_fields
        values = {"engine": engine} | {name: fields[name].default for name in others}
        spec = spec.model_copy(update={"run": spec.run.model_copy(update=values)})
        check_engine(spec.run, f"--engine {engine}")
    if workers is not None and spec.run.uses_ray:
        raise ValueError(
            "--workers: is not read with engine: ray; write run.max_trials in the file"
        )
    check_workers(spec.run, spec.run.workers if workers is None else workers)
    return spec


def _is_given(run: Run, name: str) -> bool:
    return getattr(run, name) != Run.model_fields[name].default
