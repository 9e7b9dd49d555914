"""Tables of Herrmann, Bowen and Zabih: deep networks with probabilistic gates."""

from __future__ import annotations

from itertools import chain

from benchmarks.paper_tables.table import (
    CENTRE,
    FEWER_EPOCHS,
    HELD_OUT,
    MORE_EPOCHS,
    SMALL,
    TINY,
    Other,
    PaperTable,
    Row,
    Scale,
)

PAPER = "Herrmann, Bowen and Zabih, Deep networks with probabilistic gates, 2018"
LOSSES = ("Dep PG", "Dep PB", "Ind PG", "Ind PB")
# final error in percent, and mean activation, of targets 0.0 to 0.8
CIFAR10 = (
    (9.26, 0.125), (9.8, 0.209), (9.4, 0.291), (8.88, 0.374), (8.3, 0.454), (7.5, 0.54), (7.14, 0.627), (6.82, 0.71),
    (6.08, 0.79),
    (10.5, 0.097), (9.36, 0.154), (8.45, 0.242), (8.48, 0.332), (7.8, 0.419), (7.04, 0.509), (7.86, 0.6), (6.83, 0.69),
    (6.35, 0.78),
    (10.75, 0.14), (10.27, 0.241), (9.15, 0.336), (8.75, 0.416), (7.95, 0.49), (7.43, 0.568), (6.98, 0.645),
    (6.54, 0.72), (6.82, 0.797),
    (9.52, 0.125), (8.43, 0.195), (8.41, 0.256), (7.65, 0.338), (7.71, 0.43), (7.39, 0.517), (6.92, 0.643),
    (6.86, 0.697), (6.23, 0.783),
)  # fmt: skip
OTHER_TARGETS = (
    ("Dep PB variable target, quadratic, 0.8", 6.43, 0.652),
    ("Dep PB variable target, constant then quadratic, 0.8", 6.72, 0.623),
    ("Dep PB annealed, 1.0 to 0.8", 6.0, 0.827),
    ("Dep PB annealed, 0.8 to 0.6", 6.66, 0.633),
)
# of thresholds: top-1 and top-5 error in percent, multiply-accumulates, activation; None: not there, or a misprint
IMAGENET_50 = (
    ("Dep PB, target 0.6", 23.986, 7.14, 2732360786, 0.6929),
    ("Dep PB, target 0.5", 23.988, 7.058, 2557646188, 0.6429),
    ("Dep PB, target 0.4", 24.754, 7.562, 2281151219, 0.5637),
    ("Ind PB, target 0.6", 23.716, 6.934, 2932012776, 0.75),
    ("Ind PB, target 0.5", 24.038, 7.294, 2713646824, 0.6875),
    ("Ind PB, target 0.4", 24.418, 7.478, 2495280872, 0.625),
    ("Dep PG, target 0.6", 24.068, 7.16, 3027899835, 0.7726),
    ("Dep PG, target 0.5", 24.524, 7.272, 2789914344, None),
    ("Dep PG, target 0.4", 24.778, 7.57, 2528475066, 0.6098),
    ("Ind PG, target 0.5", 24.228, 7.168, 3805476584, 1.0),
    ("AIG, target 0.7", 23.82, 7.08, 3060000000, None),
    ("AIG, target 0.6", 24.22, 7.21, 2880000000, None),
    ("AIG, target 0.5", 24.42, 7.41, 2710000000, None),
    ("AIG, target 0.4", 24.75, 7.61, 2560000000, None),
)
IMAGENET_101 = (
    ("Dep PB, target 0.6", 22.222, 6.28, 5284996031, 0.69),
    ("Dep PB, target 0.5", 22.432, 6.336, 4596138799, 0.594),
    ("AIG, target 0.5", 22.62, 6.26, 5110000000, None),
    ("AIG, target 0.3", 23.02, 6.58, 4330000000, None),
)


# of five passes with gates drawn, answers averaged: top-1 and top-5 error in percent, in the order of the settings
ENSEMBLES_50 = (
    (23.952, 7.14), (24.014, 7.076), (24.76, 7.558), (23.814, 6.97), (24.116, 7.32), (24.448, 7.506), (23.844, 7.1),
    (24.342, 7.188), (24.62, 7.486), (24.376, 7.328),
)  # fmt: skip
ENSEMBLES_101 = ((22.186, 6.162), (22.42, 6.31))


def _right(error: float) -> float:
    return round(1 - error / 100, 6)


# figure 6, and of section S4 the one ensemble that draws no gates
OTHERS_50 = (
    Other("ResNet-34, filters pruned (Li et al., 2016)", _right(27.44), 3.080e9),
    Other("ResNet-50, channels pruned (He et al., 2017)", _right(27.70), 2.726e9, _right(9.20)),
    Other("ResNet-32, layers pruned (Huang and Wang, 2018)", _right(25.82), 2.818e9, _right(8.09)),
    Other("ResNet-50, snapshot ensemble (Huang et al., 2017)", _right(23.962)),
)


def _cifar10() -> tuple[Row, ...]:
    labels = [f"{name}, target 0.{t}" for name in LOSSES for t in range(9)]
    rows = chain(
        zip(labels, *zip(*CIFAR10, strict=True), strict=True),
        OTHER_TARGETS,
    )
    return tuple(
        Row(label, _right(error), setting=place, reading="stochastic", rate=rate)
        for place, (label, error, rate) in enumerate(rows)
    )


TABLE_S5 = PaperTable(
    "pg-table-s5",
    f"{PAPER}, section S5.1 (final errors)",
    _cifar10(),
    {
        "smoke": Scale(
            TINY,
            {"backbone": "resnet8", "width": 0.25, "batch": 64, "lr_milestones": "0.43+0.71"},
            kept=range(0, 40, 13),
        ),
        "cpu": Scale(
            SMALL,
            {"backbone": "resnet14", "width": 0.25, "batch": 64, "lr_milestones": "0.43+0.71"},
            kept=range(0, 40, 3),
        ),
    },
    differs=(
        HELD_OUT,
        "the paper does not say how a variable target averages; here it is the mean of the last epoch",
    ),
)


def _imagenet(
    depth: int,
    published: tuple[tuple[str, float, float, int, float | None], ...],
    ensembles: tuple[tuple[float, float], ...],
    kept: tuple[int, ...],
    others: tuple[Other, ...] = (),
) -> PaperTable:
    """`kept`: what is trained at cpu scale, where no setting can have the targets of AIG, which are of a depth."""
    rows = tuple(
        Row(label, _right(top1), macs, place, reading="refreshed", rate=rate, top5=_right(top5))
        for place, (label, top1, top5, macs, rate) in enumerate(published)
    )
    together = tuple(
        Row(
            f"{row.label}, ensemble",
            _right(top1),
            setting=row.setting,
            reading="drawn together",
            top5=_right(top5),
        )
        for row, (top1, top5) in zip(rows, ensembles, strict=False)
    )
    scratch = {
        "init_from": None,
        "measure": {"recalibration_batches": 2, "recalibration_images": 64},
    }
    small = {"batch": 32, "stem": "cifar", "width": 0.25, "lr_milestones": "0.3+0.6+0.9"}
    return PaperTable(
        f"pg-imagenet-{depth}",
        f"{PAPER}, figures 4 and 6 and section S4, ResNet-{depth}, thresholds and ensembles",
        rows + together,
        {
            "smoke": Scale(TINY | scratch | {"image_size": 8, "crop_pct": 1.0}, small, kept=(0, len(rows) // 2)),
            "cpu": Scale(
                SMALL | MORE_EPOCHS | {"image_size": 32, "crop_pct": 1.0} | scratch,
                small | {"backbone": "resnet26", "batch": 64, "stem": "imagenet"},
                kept=kept,
            ),
        },
        differs=(
            HELD_OUT,
            CENTRE,
            "numbers of AIG are its own paper's, whose gates are drawn at random; here they are thresholds too",
            "the ResNet itself is not a row: its accuracy is that of torchvision's weights",
            "per-batch gates with a constant, then quadratic loss and an annealed target are left out: the paper does "
            "not give their targets",
        ),
        others=others,
    )  # fmt: skip


FIGURE_9 = PaperTable(
    "pg-figure-9",
    f"{PAPER}, Figure 9",
    (
        Row("all exits, by their gates", _right(5.61), setting=0),
        *(
            row
            for k, (name, share, every, own) in enumerate(
                (("block 1", 0.2871, 18.64, 3.63), ("block 2", 0.1156, 6.65, 1.47), ("final block", 0.5973, 5.81, 7.37))
            )
            for row in (
                Row(f"{name}, all images", _right(every), setting=0, reading="exit alone", exit=k, share=share),
                Row(f"{name}, its images", _right(own), setting=0, reading="exit chosen", exit=k, share=share),
            )
        ),
        Row("DenseNet without gates", _right(4.76), baseline={"depth": 100}),
    ),
    {
        "smoke": Scale(
            TINY,
            {"depth": 22, "growth": 4, "batch": 64, "lr_milestones": "0.5+0.75"},
            {"depth": {100: 22}},
        ),
        "cpu": Scale(
            SMALL | FEWER_EPOCHS,
            {"depth": 22, "growth": 8, "lr_milestones": "0.5+0.75"},
            {"depth": {100: 22}},
        ),
    },
    differs=(
        HELD_OUT,
        "the paper gives neither the size of its DenseNet nor its recipe: depth 100, growth 12 and those of the "
        "DenseNet paper",
    ),
)  # fmt: skip
TABLES = (
    TABLE_S5,
    _imagenet(50, IMAGENET_50, ENSEMBLES_50, (0, 2, 6, 8), OTHERS_50),
    _imagenet(101, IMAGENET_101, ENSEMBLES_101, (0, 1)),
    FIGURE_9,
)
