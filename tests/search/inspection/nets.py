"""Untrained networks at settings at which their images differ, for the tests of this folder."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch

from search.inspection.forward_pass import Effort
from search.inspection.measures import Inspection, inspect_network
from search.run.data import load_data, task_of
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from trainers.data.splits import DataSpec, ImageData
from trainers.exit_logits import exit_logits

VIT = {"layers": 3, "dim": 32, "head_dim": 16, "mlp_ratio": 1, "patch": 2}


EFFORT = Effort(images=120, moved=16, shown=3, samples=3, side=32, umap=False)


@lru_cache(maxsize=8)
def _built(name: str, values: str) -> DynamicNet:
    own = family(name)
    torch.manual_seed(0)
    net = own.build(
        own.config(**json.loads(values)),
        task_of(load_data(DataSpec(source="digits", train_limit=64))),
    )
    return net.eval()


def network(name: str, **values: Any) -> DynamicNet:
    return _built(name, json.dumps(values))


def joint() -> DynamicNet:
    return network(
        "gated_resnet", backbone="resnet8", width=0.25, granularity="joint", channel_group=1
    )


@lru_cache(maxsize=1)
def halves() -> Knobs:
    """Thresholds at which each gate of the untrained joint network is open for about half of the images."""
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        decisions = joint().run(images, Knobs(tau=0.0)).decisions
    return Knobs(tau={d.gate.name: float(d.p_BU.median()) for d in decisions if d.p_BU is not None})


def exits() -> DynamicNet:
    return network(
        "multi_exit", backbone="resnet18", width=0.125, exits="scan", attention="depthwise"
    )


@lru_cache(maxsize=1)
def leaving() -> Knobs:
    """Thresholds at which about half of the images are sure enough at each exit of the untrained network."""
    images = load_data(DataSpec(source="digits", train_limit=64))
    raw = exit_logits(exits(), images.validation, images, Knobs(policy="always_on"))
    sure = [float(logits.softmax(1).amax(1).median()) for logits in raw.logits[:-1]]
    return Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=tuple(sure))


# untrained networks all have wrong answers
DIFFERING = {"cost_shares", "images", "mistakes"}  # of images that take different amounts

CASES: dict[str, tuple[Any, Knobs, set[str]]] = {
    "joint": (joint, halves(), DIFFERING | {"class_rates", "skip_patterns"}),
    "exits": (exits, leaving(), DIFFERING | {"exits", "attention"}),
    "dense": (
        lambda: network("dense_vit", aggregator="wsdc", **VIT),
        Knobs(policy="always_on"),
        {"layer_mixing", "mistakes"},
    ),
    "shuffled": (
        lambda: network("shuffled_vit", **VIT),
        Knobs(policy="always_on"),
        {"layer_moves", "embedding", "mistakes"},
    ),
    "plain": (
        lambda: network("gated_resnet", backbone="resnet8", width=0.25, gated=False),
        Knobs(),
        {"mistakes"},
    ),
}


def found_of(case: str, data: ImageData) -> Inspection:
    make, knobs, _ = CASES[case]
    return inspect_network(make(), data, knobs, effort=EFFORT)
