"""Tables of Ehteshami Bejnordi and Krestel: dynamic channel and layer gating."""

from __future__ import annotations

from benchmarks.paper_tables.table import PaperTable, Row, Scale

TABLE_1 = PaperTable(
    "dlcg-table-1",
    "Ehteshami Bejnordi and Krestel, Dynamic Channel and Layer Gating in Convolutional Neural Networks, KI, 2020, "
    "Table 1",
    tuple(
        Row(f"layer {layer:.2f}, channel {channel:.2f}", accuracy / 100, macs * 1e9, setting)
        for setting, (layer, channel, accuracy, macs) in enumerate(
            (
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
        )
    ),
    {
        "smoke": Scale(
            {"data": "digits", "budget": {"epochs": 1}, "repeats": 1, "train_limit": 128},
            {"backbone": "resnet8", "width": 0.25, "batch": 64},
        ),
        "cpu": Scale(
            {"budget": {"epochs": 20}, "repeats": 2, "train_limit": 5000, "image_size": 16},
            {"backbone": "resnet8", "batch": 64},
        ),
    },
)
TABLES = (TABLE_1,)
