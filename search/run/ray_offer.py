"""What a Ray cluster has for a study's trials."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.run.ray_cluster import address_of, check_installed, connected
from search.study_parts import Run

MANY = 10**9
NO_GPUS = "; no trial asks for a GPU, for there is none: write run.gpus_per_trial where an autoscaler is to start some"
SHOWN = {"CPU": ("CPUs", 1.0), "GPU": ("GPUs", 1.0), "memory": ("GB of memory", 1e9)}


@dataclass(frozen=True)
class Offer:
    """Its machines, their CPUs and GPUs, and how many trials find room at once. `address` is None on this machine."""

    address: str | None
    nodes: int
    cpus: float
    gpus: float
    trials: int

    def line(self, run: Run) -> str:
        """In words."""
        where = f"the Ray cluster at {self.address}" if self.address else "Ray on this machine"
        have = f"{where}: {_counted(self.nodes, 'node')}, {_counted(self.cpus, 'CPU')}, {_counted(self.gpus, 'GPU')}"
        alone = self.address is None
        asked = needs(run, self.gpus > 0, alone)
        found = (
            f"room for {_counted(self.trials, 'trial')} at once"
            if self.trials
            else f"no node has room for a trial of {_needs_text(asked)}, so the search waits for one that has"
        )
        may_grow = run.device == "auto" and "GPU" not in asked and not alone
        return f"{have}; {found}{NO_GPUS if may_grow else ''}"


def needs(run: Run, has_gpus: bool, alone: bool = False) -> dict[str, float]:
    """What Ray is asked for, for one trial.

    On device `auto`, GPUs where there are some, and where the file says how many a trial takes: an autoscaler starts
    machines with GPUs only once they are asked for. A cluster of this machine `alone` gets no more of them.
    """
    found: dict[str, float] = {"CPU": run.cpus_per_trial}
    named = "gpus_per_trial" in run.model_fields_set and not alone
    if run.device == "cuda" or (run.device == "auto" and (has_gpus or named)):
        found["GPU"] = run.gpus_per_trial
    if run.memory_gigabytes is not None:
        found["memory"] = int(1e9 * run.memory_gigabytes)
    return found


def offer(run: Run) -> Offer:
    """What the study's cluster has; one of this machine alone is not started to find out.

    Raises ValueError where Ray is not installed, ClusterError where nothing answers.
    """
    check_installed()
    address = address_of(run.address)
    if address is None:
        return offered(None, [_this_machine()], run)
    cluster = connected(address)
    try:
        return offered(address, resources(cluster.ray), run)
    finally:
        cluster.close()


def waiting_text(ray: Any, asked: Mapping[str, float], seconds: float, why_lost: str) -> str:
    """What to say where Ray has found no place for any training, which takes what is `asked`, for so long."""
    nodes = resources(ray)
    free = ray.available_resources()
    line = (
        f"no trial has found a place for {seconds:.0f} s: one takes {_needs_text(asked)}; "
        f"{_counted(len(nodes), 'node')}, {_free_text(free, nodes, asked)}"
    )
    if why_lost:
        return f"{line}; the last place was lost: {why_lost}"
    if not any(room(node, asked) for node in nodes):
        return (
            f"{line}; no node is large enough: unless an autoscaler adds one, lower run.cpus_per_trial, "
            "gpus_per_trial or memory_gigabytes, or add a node"
        )
    if any(free.get(name, 0.0) < each for name, each in asked.items()):
        return f"{line}; others have what is missing, and the search waits for it"
    return (
        f"{line}; all that is enough: unless no single node has it free, no process starts there: every node needs "
        f"dynafront and the driver's Python and Ray; Ray's logs are in {_logs(ray)}"
    )


def _free_text(
    free: Mapping[str, float], nodes: Sequence[Mapping[str, float]], asked: Mapping[str, float]
) -> str:
    """How much of what a trial takes is free on all nodes together."""
    words = []
    for name, (word, unit) in SHOWN.items():
        if name in asked:
            there, whole = free.get(name, 0.0) / unit, _sum(nodes, name) / unit
            words.append(f"{there:.3g} of {whole:.3g} {word} free")
    return ", ".join(words)


def _logs(ray: Any) -> str:
    try:
        return f"{ray._private.worker._global_node.get_session_dir_path()}/logs"
    except AttributeError:
        return "the folder of its session, /tmp/ray/session_latest/logs"


def resources(ray: Any) -> list[Mapping[str, float]]:
    """What each node that is alive has, by name."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def offered(address: str | None, nodes: Sequence[Mapping[str, float]], run: Run) -> Offer:
    """The same of nodes that are known."""
    asked = needs(run, any(node.get("GPU") for node in nodes), alone=address is None)
    trials = sum(room(node, asked) for node in nodes)
    return Offer(
        address, len(nodes), _sum(nodes, "CPU"), _sum(nodes, "GPU"), min(run.max_trials, trials)
    )


def room(node: Mapping[str, float], asked: Mapping[str, float]) -> int:
    """How many trials find room on a node; shares of GPUs do not reach over two of them."""
    rooms = [MANY]
    for name, each in asked.items():
        there = node.get(name, 0.0)
        shared = name == "GPU" and each < 1
        rooms.append(int(there) * int(1 / each) if shared else int(there / each))
    return min(rooms)


def _this_machine() -> dict[str, float]:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count(), "memory": 0.7 * memory}


def _sum(nodes: Iterable[Mapping[str, float]], name: str) -> float:
    return sum(node.get(name, 0.0) for node in nodes)


def _counted(count: float, what: str) -> str:
    return f"{count:g} {what}{'s' * (count != 1)}"


def _needs_text(asked: Mapping[str, float]) -> str:
    words = [_counted(asked["CPU"], "CPU")]
    if gpus := asked.get("GPU"):
        words.append(f"{gpus:g} GPU")
    if memory := asked.get("memory"):
        words.append(f"{memory / 1e9:g} GB of memory")
    return " and ".join(words)
