"""What a Ray cluster has for a study's trials."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.run.ray_cluster import address_of, check_installed, connected
from search.study_parts import Run

MANY = 10**9


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
        if self.trials:
            return f"{have}; room for {_counted(self.trials, 'trial')} at once"
        return f"{have}; no node has room for a trial of {_needs_text(run)}, so the search waits for one that has"


def needs(run: Run, has_gpus: bool) -> dict[str, float]:
    """What Ray is asked for, for one trial: GPUs unless it trains on the CPU or, on `auto`, where there are none."""
    found: dict[str, float] = {"CPU": run.cpus_per_trial}
    if run.device == "cuda" or (run.device == "auto" and has_gpus):
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


def resources(ray: Any) -> list[Mapping[str, float]]:
    """What each node that is alive has, by name."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def offered(address: str | None, nodes: Sequence[Mapping[str, float]], run: Run) -> Offer:
    """The same of nodes that are known."""
    asked = needs(run, any(node.get("GPU") for node in nodes))
    room = sum(_room(node, asked) for node in nodes)
    return Offer(
        address, len(nodes), _sum(nodes, "CPU"), _sum(nodes, "GPU"), min(run.max_trials, room)
    )


def _room(node: Mapping[str, float], asked: Mapping[str, float]) -> int:
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


def _needs_text(run: Run) -> str:
    words = [_counted(run.cpus_per_trial, "CPU")]
    if run.device != "cpu":
        words.append(f"{run.gpus_per_trial:g} GPU")
    if run.memory_gigabytes is not None:
        words.append(f"{run.memory_gigabytes:g} GB of memory")
    return " and ".join(words)
