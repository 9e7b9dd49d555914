"""Tables and figures of Ehteshami Bejnordi and Krestel: dynamic channel and layer gating.

The figures are pictures: their points have no numbers, but those of Table 1.
"""

from __future__ import annotations

from benchmarks.paper_tables.table import HELD_OUT, SMALL, TINY, PaperTable, Row, Scale

PAPER = "Ehteshami Bejnordi and Krestel, Dynamic Channel and Layer Gating in Convolutional Neural Networks, KI, 2020"
# layer factor, channel factor, accuracy in percent, GMACs
PUBLISHED = (
    (0.09, 0.15, 88.96, 0.0076),
    (0.07, 0.12, 89.67, 0.0089),
    (0.09, 0.10, 89.87, 0.0091),
    (0.05, 0.10, 90.59, 0.0115),
    (0.05, 0.07, 91.55, 0.0145),
    (0.02, 0.03, 91.99, 0.0206),
    (0.00, 0.03, 92.49, 0.0232),
    (0.00, 0.05, 92.74, 0.0320),
    (0.00, 0.00, 92.86, 0.0353),
)
FRACTIONS = {"lr_milestones": "0.5+0.75+0.9375"}  # of the training, as published
TABLE_1 = PaperTable(
    "dlcg-table-1",
    f"{PAPER}, Table 1",
    tuple(
        Row(f"layer {layer:.2f}, channel {channel:.2f}", accuracy / 100, macs * 1e9, setting)
        for setting, (layer, channel, accuracy, macs) in enumerate(PUBLISHED)
    ),
    {
        "smoke": Scale(TINY, FRACTIONS | {"backbone": "resnet8", "width": 0.25, "batch": 64}),
        "cpu": Scale(SMALL, FRACTIONS | {"backbone": "resnet8", "width": 0.5, "batch": 64}),
    },
    differs=(HELD_OUT,),
)


def _figure(name: str, source: str, joint: bool, differs: tuple[str, ...]) -> PaperTable:
    """Layer, channel and joint gates; the joint ones have numbers in Table 1 where they are of CIFAR-10."""
    known = {(layer, channel): (accuracy, macs) for layer, channel, accuracy, macs in PUBLISHED}
    rows = [Row(f"layer gates, target {t}", None, None, i) for i, t in enumerate((0.4, 0.6, 0.8))]
    rows += [
        Row(f"channel gates, factor {gamma:.2f}", None, None, 3 + i)
        for i, gamma in enumerate((0.15, 0.10, 0.05))
    ]
    for i, factors in enumerate(((0.09, 0.15), (0.05, 0.10), (0.02, 0.03))):
        accuracy, macs = known[factors] if joint else (None, None)
        rows.append(
            Row(
                "joint gates, factors {:.2f} and {:.2f}".format(*factors),
                None if accuracy is None else accuracy / 100,
                None if macs is None else macs * 1e9,
                6 + i,
            )
        )
    rows += [
        Row(f"ResNet-{depth}", None, baseline={"backbone": f"resnet{depth}"}) for depth in (20, 14)
    ]
    shallower = {"backbone": {"resnet20": "resnet14", "resnet14": "resnet8"}}
    return PaperTable(
        name,
        f"{PAPER}, {source}",
        tuple(rows),
        {
            "smoke": Scale(TINY, FRACTIONS | {"width": 0.25, "batch": 64}, shallower, (0, 3, 6)),
            "cpu": Scale(SMALL, FRACTIONS | {"width": 0.5, "batch": 64}, shallower),
        },
        differs=(HELD_OUT, *differs),
    )


UNKNOWN = "the settings of layer and of channel gates are not in the paper; these are ours"
FIGURE_3 = _figure("dlcg-figure-3", "Figure 3", True, (UNKNOWN,))
FIGURE_4 = _figure(
    "dlcg-figure-4",
    "Figure 4",
    False,
    (UNKNOWN, "nor are the recipe and the settings of joint gates"),
)
TABLES = (TABLE_1, FIGURE_3, FIGURE_4)
