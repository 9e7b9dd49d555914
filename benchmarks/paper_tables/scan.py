"""Tables of Zhang, Tan, Song, Chen, Bao and Ma: SCAN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.paper_tables.table import (
    CENTRE,
    HELD_OUT,
    MORE_EPOCHS,
    SMALL,
    TINY,
    PaperTable,
    Row,
    Scale,
)

PAPER = (
    "Zhang, Tan, Song, Chen, Bao and Ma, SCAN: A Scalable Neural Networks Framework Towards Compact and Efficient "
    "Models, NeurIPS, 2019"
)
# percent: the network alone, its classifiers from the shallowest to the deepest, their ensemble
CIFAR100: Mapping[str, tuple[float, ...]] = {
    "vgg16_bn": (72.46, 71.29, 74.92, 75.18, 75.29, 76.80),
    "vgg19_bn": (72.25, 71.52, 74.02, 74.15, 74.43, 75.43),
    "resnet18": (77.09, 71.84, 77.74, 78.62, 79.13, 80.46),
    "resnet50": (77.68, 73.69, 78.34, 80.39, 80.45, 81.78),
    "resnet101": (77.98, 72.26, 79.26, 80.95, 81.12, 82.06),
    "resnet152": (79.21, 73.14, 80.40, 81.73, 81.62, 82.94),
    "wrn20_8": (74.61, 74.52, 78.17, 79.25, 80.04),
    "wrn44_8": (76.22, 76.02, 78.74, 79.67, 80.35),
}
IMAGENET: Mapping[str, tuple[float, ...]] = {
    "resnet18": (68.02, 48.25, 58.00, 65.32, 69.32),
    "resnet50": (74.47, 53.86, 66.54, 73.57, 75.88),
    "resnet101": (75.24, 52.32, 65.33, 74.51, 76.32),
}


def _rows(published: Mapping[str, tuple[float, ...]], *, ensemble: bool) -> Iterator[Row]:
    for place, (name, (alone, *classifiers)) in enumerate(published.items()):
        yield Row(f"{name}, alone", _share(alone), baseline={"backbone": name}, beside=place)
        deepest = len(classifiers) - (2 if ensemble else 1)
        for k, value in enumerate(classifiers):
            if k <= deepest:
                label = f"{name}, classifier {k + 1}/{deepest + 1}"
                yield Row(label, _share(value), setting=place, reading="exit", exit=k)
            else:
                yield Row(f"{name}, ensemble", _share(value), setting=place, reading="ensemble")


def _share(percent: float) -> float:
    return round(percent / 100, 6)


def _small(milestones: str) -> dict[str, Any]:
    return {"width": 0.125, "batch": 32, "lr_milestones": milestones}


TABLE_1 = PaperTable(
    "scan-table-1",
    f"{PAPER}, Table 1",
    tuple(_rows(CIFAR100, ensemble=True)),
    {
        "smoke": Scale(TINY, _small("0.375+0.65+0.9"), kept=(0, 4)),
        "cpu": Scale(SMALL | MORE_EPOCHS, _small("0.375+0.65+0.9") | {"batch": 64}, kept=(0, 2, 6)),
    },
    differs=(HELD_OUT,),
)
LARGE = {"crop_pct": 1.0, "image_size": 32}
TABLE_2 = PaperTable(
    "scan-table-2",
    f"{PAPER}, Table 2",
    tuple(_rows(IMAGENET, ensemble=False)),
    {
        "smoke": Scale(TINY | LARGE, _small("0.3+0.6"), kept=(0, 2)),
        "cpu": Scale(SMALL | MORE_EPOCHS | LARGE, _small("0.3+0.6") | {"batch": 64}, kept=(0, 1)),
    },
    differs=(
        HELD_OUT,
        CENTRE,
    ),
)
TABLES = (TABLE_1, TABLE_2)
