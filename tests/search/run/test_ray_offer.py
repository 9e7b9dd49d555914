"""How many trials find room on a cluster, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from search.run.ray_offer import needs, offered, waiting_text
from search.study_parts import Run

SMALL: dict[str, float] = {"CPU": 4, "memory": 16e9}
LARGE: dict[str, float] = {"CPU": 16, "GPU": 2, "memory": 64e9}


def run(**values: Any) -> Run:
    return Run(engine="ray", **values)


@pytest.mark.parametrize(
    ("values", "trials"),
    [
        ({"device": "cpu"}, 4 + 16),
        ({"device": "cpu", "cpus_per_trial": 3}, 1 + 5),
        ({}, 2),  # a GPU each, as there are some
        ({"gpus_per_trial": 0.5, "cpus_per_trial": 2}, 4),
        ({"gpus_per_trial": 0.4}, 4),  # two on each GPU
        ({"gpus_per_trial": 2}, 1),
        ({"gpus_per_trial": 4}, 0),
        ({"device": "cpu", "memory_gigabytes": 10.0}, 1 + 6),
        ({"device": "cpu", "max_trials": 5}, 5),
    ],
)
def test_trials_find_room_where_cpus_gpus_and_memory_are(
    values: dict[str, Any], trials: int
) -> None:
    assert offered(None, [SMALL, LARGE], run(**values)).trials == trials


def test_a_gpu_is_asked_for_where_there_is_one_or_the_file_insists() -> None:
    assert "GPU" not in needs(run(), has_gpus=False)
    assert "GPU" not in needs(run(device="cpu"), has_gpus=True)
    assert needs(run(gpus_per_trial=0.5), has_gpus=True)["GPU"] == 0.5
    assert needs(run(device="cuda"), has_gpus=False)["GPU"] == 1


def test_a_gpu_that_the_file_names_is_asked_for_where_an_autoscaler_may_start_one() -> None:
    for each in (1, 0.5):
        assert needs(run(gpus_per_trial=each), has_gpus=False)["GPU"] == each
    assert "GPU" not in needs(run(gpus_per_trial=1), has_gpus=False, alone=True)
    assert "GPU" not in needs(run(gpus_per_trial=1, device="cpu"), has_gpus=False)


def test_a_cluster_without_a_gpu_says_how_one_is_asked_for() -> None:
    head: dict[str, float] = {"CPU": 0, "memory": 8e9}
    hint = "; no trial asks for a GPU, for there is none: write run.gpus_per_trial where an autoscaler is to start some"
    start = "the Ray cluster at head:6379: 1 node, 0 CPUs, 0 GPUs; no node has room for a trial of"
    plain, named, cpu = run(), run(gpus_per_trial=1), run(device="cpu")
    assert offered("head:6379", [head], plain).line(plain) == (
        f"{start} 1 CPU, so the search waits for one that has{hint}"
    )
    assert offered("head:6379", [head], named).line(named) == (
        f"{start} 1 CPU and 1 GPU, so the search waits for one that has"
    )
    assert hint not in offered("head:6379", [head], cpu).line(cpu)
    assert hint not in offered("head:6379", [LARGE], plain).line(plain)
    assert hint in offered("head:6379", [SMALL], plain).line(plain)
    assert hint not in offered(None, [SMALL], plain).line(plain), "no machine is added to this one"


def test_the_cluster_is_said_in_one_line() -> None:
    half = run(gpus_per_trial=0.5, cpus_per_trial=4)
    assert offered("head:6379", [SMALL, LARGE], half).line(half) == (
        "the Ray cluster at head:6379: 2 nodes, 20 CPUs, 2 GPUs; room for 4 trials at once"
    )
    large = run(cpus_per_trial=32, gpus_per_trial=4, memory_gigabytes=8.0)
    assert offered(None, [SMALL], large).line(large) == (
        "Ray on this machine: 1 node, 4 CPUs, 0 GPUs; no node has room for a trial of 32 CPUs and 8 GB of "
        "memory, so the search waits for one that has"
    )


class Idle:
    """What is asked of Ray about its nodes, and what of them is free."""

    def __init__(self, nodes: list[dict[str, float]], **free: float) -> None:
        self._nodes, self._free = nodes, free

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in self._nodes]

    def available_resources(self) -> dict[str, float]:
        return self._free


def test_what_keeps_all_trials_waiting_is_said() -> None:
    half = run(gpus_per_trial=0.5, cpus_per_trial=4, memory_gigabytes=8.0)
    nodes, free = [SMALL, LARGE], {"CPU": 18.0, "GPU": 1.5, "memory": 60e9}
    asked = needs(half, has_gpus=True)
    start = (
        "no trial has found a place for 61 s: one takes 4 CPUs and 0.5 GPU and 8 GB of memory; 2 nodes, "
        "18 of 20 CPUs free, 1.5 of 2 GPUs free, 60 of 80 GB of memory free; "
    )
    said = waiting_text(Idle(nodes, **free), asked, 61.2, "")
    assert said.startswith(
        f"{start}all that is enough: unless no single node has it free, no process starts"
    )
    assert waiting_text(Idle(nodes, **free), asked, 61.2, "no module named ray") == (
        f"{start}the last place was lost: no module named ray"
    )
    taken = waiting_text(Idle(nodes, **(free | {"GPU": 0.2})), asked, 61.2, "")
    assert taken.endswith("others have what is missing, and the search waits for it")
    small = waiting_text(Idle([SMALL], CPU=4.0), {"CPU": 8}, 61.2, "")
    assert small == (
        "no trial has found a place for 61 s: one takes 8 CPUs; 1 node, 4 of 4 CPUs free; no node is large enough: "
        "unless an autoscaler adds one, lower run.cpus_per_trial, gpus_per_trial or memory_gigabytes, or add a node"
    )
