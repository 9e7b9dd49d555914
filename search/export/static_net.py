"""The static network that an exported model stands beside: chosen from the study's baselines, measured on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from search.export.measures import Counts, batch_of
from search.front.comparison import better
from search.objectives import MACS, Cost
from search.report.text import network_text
from search.run.job import Job
from search.run.worker import trained_net
from spaces.contract.net import DynamicNet
from spaces.deploy.ship import DeployedNet, ship_baseline
from storage.records import PointRecord, training_text
from trainers.data.splits import Split, test_split
from trainers.metrics import ACCURACY, METRICS, Metric


@dataclass(frozen=True)
class Beside:
    """Which baseline of the study to compare with, as a job that finds it, and why that one.

    `predicted_ms`: what an image takes in it by the study's latency table, where it has one.
    """

    job: Job
    why: str
    predicted_ms: float | None = None


@dataclass(frozen=True)
class StaticNet:
    """A static network ready to ship; `test` is what it does on the test images, None where it was never trained.

    `images` are the test images as it takes them: it may be of another size than the exported model.
    """

    name: str
    why: str
    net: DeployedNet
    macs: float
    images: Split
    test: dict[str, Any] | None = None
    right: bytes | None = None  # what it answers to each test image, as the metric packs it
    predicted_ms: float | None = None  # of an image, by the study's latency table

    def as_dict(self) -> dict[str, Any]:
        parameters = sum(p.numel() for p in self.net.parameters())
        cost = {"macs_mean": self.macs, "macs_p95": self.macs, "macs_max": self.macs}
        own = {"name": self.name, "why": self.why, "trained": self.test is not None}
        return {**own, "parameters": parameters, **(self.test or cost)}


def baseline_beside(
    point: PointRecord, baselines: Sequence[PointRecord], cost: Cost = MACS
) -> tuple[PointRecord, str] | None:
    """The cheapest other baseline that is not significantly worse on validation, else the most accurate; and why."""
    others = sorted((p for p in baselines if p.training != point.training), key=cost.of)
    if not others:
        return None
    for one in others:
        if not better(point, one):
            return (
                one,
                "the cheapest static network of the study that is not significantly worse on validation",
            )
    best = max(others, key=lambda p: p.accuracy)
    return (
        best,
        "the most accurate static network of the study; all are significantly worse on validation",
    )


def standing(ours: bytes | None, theirs: bytes | None, metric: Metric) -> str | None:
    """How an exported model compares on the same test images, by the metric's test; None where nothing is known."""
    if ours is None or theirs is None:
        return None
    more, less, what = "better", "worse", f"in {metric.label}"
    if metric is ACCURACY:
        more, less, what = "more", "less", "accurate"
    if metric.better(ours, theirs):
        return f"significantly {more} {what}"
    if metric.better(theirs, ours):
        return f"significantly {less} {what}"
    return f"neither significantly {more} nor {less} {what}"


def static_net(net: DynamicNet, beside: Beside | None, test: Split) -> StaticNet:
    """The static network to compare with: that of the study, else an untrained one of the same backbone."""
    reason = "the study has trained no other static network"
    if beside is not None:
        try:
            return _trained(beside)
        except ValueError as error:
            reason = f"{training_text(beside.job.kind, beside.job.number)} cannot be read: {error}"
    why = f"of the same backbone, not trained: {reason}"
    return StaticNet("static network", why, ship_baseline(net), net.plain_macs, test)


def _trained(beside: Beside) -> StaticNet:
    job, metric = beside.job, METRICS[beside.job.metric]
    net, _, _ = trained_net(job)
    shipped, counts, test = ship_baseline(net), Counts(), test_split(job.data)
    with torch.inference_mode():
        for batch in test.batches(batch_of(shipped.task)):
            logits_BC, macs_B = shipped.run(batch.images.float() / 255)
            counts.add(logits_BC, batch.labels, macs_B)
    found = counts.accuracy_and_cost(metric)
    name = f"{training_text(job.kind, job.number)} ({network_text(job.family, job.params)})"
    packed = counts.packed(metric)
    return StaticNet(
        name, beside.why, shipped, found["macs_mean"], test, found, packed, beside.predicted_ms
    )
