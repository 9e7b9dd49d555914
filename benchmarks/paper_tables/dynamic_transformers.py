"""Tables of Mersha: dynamic transformer networks."""

from __future__ import annotations

from benchmarks.paper_tables.table import SMALL, PaperTable, Row, Scale

TABLE_1 = PaperTable(
    "dt-table-1",
    "Mersha, Dynamic Transformer Networks, Dynamic Neural Networks workshop at ICML, 2022, Table 1",
    tuple(
        Row(
            f"{name}, {layers} layers",
            accuracy / 100,
            setting=None if place is None else 2 * place + deeper,
            baseline={"layers": layers} if place is None else {},
        )
        for place, name, accuracies in (
            (None, "base", (68.11, 68.29)),
            (0, "WDC", (67.46, 67.55)),
            (1, "WSDC", (68.98, 67.76)),
            (2, "DT", (67.18, 66.62)),
        )
        for deeper, (layers, accuracy) in enumerate(zip((10, 16), accuracies, strict=True))
    ),
    {
        "smoke": Scale(
            {"data": "digits", "budget": {"epochs": 1}, "repeats": 1, "train_limit": 128},
            {"dim": 32, "patch": 2, "batch": 64},
            {"layers": {10: 3, 16: 4}},
        ),
        "cpu": Scale(
            SMALL,
            {"dim": 64, "batch": 64},
            {"layers": {10: 4, 16: 6}},
        ),
    },
    differs=("16-bit numbers are bfloat16, where they are faster",),
)
TABLES = (TABLE_1,)
