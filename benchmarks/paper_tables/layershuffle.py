"""Tables and a figure of Freiberger, Kun, Løvlie and Risi: LayerShuffle."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper_tables.table import SMALL, TINY, PaperTable, Row, Scale

PAPER = (
    "Freiberger, Kun, Løvlie and Risi, LayerShuffle: Enhancing Robustness in Vision Transformers by Randomizing Layer "
    "Execution Order, 2024"
)
APPROACHES = ("baseline", "LayerShuffle", "LayerShuffle-position", "LayerShuffle-predict")
# percent of Table 1: layers in order, in any order
TABLE_1 = {
    "ls-imagenet-vit": ((82.61, 75.22, 75.28, 74.41), (0.13, 62.77, 63.61, 61.18)),
    "ls-imagenet-deit": ((81.16, 76.57, 76.18, 75.08), (0.12, 66.62, 65.89, 64.51)),
    "ls-cifar100-vit": ((89.62, 64.43, 61.98, 60.88), (0.64, 54.34, 55.47, 53.53)),
    "ls-cifar100-deit": ((87.31, 75.04, 72.13, 66.94), (0.53, 64.99, 64.31, 58.77)),
}
_SCRATCH = {"backbone": "none", "pretrained": False, "adamw_lr": 0.001}


def _scales(*, tell: bool) -> dict[str, Scale]:
    """From random weights, with fewer layers; `tell`: some networks learn to tell places, by the sum over layers."""
    layers = {"smoke": 4, "cpu": 6}
    told = {name: {"pred_weight": float(n)} if tell else {} for name, n in layers.items()}
    tiny = TINY | {"repeats": 2, "image_size": 8}
    return {
        "smoke": Scale(
            tiny,
            {**_SCRATCH, **told["smoke"], "layers": 4, "dim": 32, "patch": 2, "batch": 64},
            {"layers": {3: 1, 6: 2, 9: 3}},
        ),
        "cpu": Scale(
            SMALL,
            {**_SCRATCH, **told["cpu"], "layers": 6, "dim": 64, "patch": 4, "batch": 64},
            {"layers": {3: 2, 6: 3, 9: 4}},
        ),
    }


LONGER = "baselines are refined as long as the others, where the paper's take 1 epoch on ImageNet, 20 on CIFAR-100"
DIFFERS = (LONGER,)


def _rows(published: tuple[tuple[float, ...], tuple[float, ...]]) -> Iterator[Row]:
    for reading, words, percents in zip(
        ("trained", "any order"), ("in order", "in any order"), published, strict=True
    ):
        for place, (name, percent) in enumerate(zip(APPROACHES, percents, strict=True)):
            accuracy = round(percent / 100, 6)
            yield Row(f"{name}, {words}", accuracy, setting=place, reading=reading)


def _table_1(name: str) -> PaperTable:
    return PaperTable(
        name, f"{PAPER}, Table 1", tuple(_rows(TABLE_1[name])), _scales(tell=True), DIFFERS
    )


def _figure_rows() -> Iterator[Row]:
    kept = ("a quarter", "half", "three quarters")
    for place, name in enumerate(("LayerShuffle", "LayerDrop 0.2")):
        for words in ("", ", any order"):
            whole = "any order" if words else "trained"
            yield Row(f"{name}, all layers{words}", None, setting=place, reading=whole)
            for share in kept:
                reading = f"{share}{words}"
                yield Row(
                    f"{name}, {share} of the layers{words}", None, setting=place, reading=reading
                )
    for place, layers in enumerate((3, 6, 9), start=2):
        for reading, words in (("trained", ""), ("any order", ", any order")):
            label = f"refined with {layers} of 12 layers{words}"
            yield Row(label, None, setting=place, reading=reading)


FIGURE_1 = PaperTable(
    "ls-figure-1", f"{PAPER}, Figure 1 (b, c)", tuple(_figure_rows()), _scales(tell=False), DIFFERS
)
TABLE_2 = PaperTable(
    "ls-table-2",
    f"{PAPER}, Table 2",
    (
        Row("merged ViT-B/16, in order", 0.0187, setting=0, reading="merged", top5=0.0453),
        Row("merged LayerShuffle, in any order", 0.5968, setting=1, reading="merged, any order", top5=0.8216),
        Row("LayerShuffle ensemble, in any order", 0.6926, setting=1, reading="together, any order", top5=0.8876),
    ),
    _scales(tell=False),
    (*DIFFERS, "stem, positions, norm and classifiers are the mean of the merged models', which the paper leaves open"),
)  # fmt: skip
TABLES = (*map(_table_1, TABLE_1), FIGURE_1, TABLE_2)
