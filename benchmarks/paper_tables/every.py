"""All tables, by their names."""

from __future__ import annotations

from benchmarks.paper_tables import (
    dynamic_transformers,
    layer_and_channel_gates,
    layershuffle,
    probabilistic_gates,
    scan,
)
from benchmarks.paper_tables.table import PaperTable

MODULES = (probabilistic_gates, layer_and_channel_gates, scan, dynamic_transformers, layershuffle)
TABLES: dict[str, PaperTable] = {table.name: table for module in MODULES for table in module.TABLES}
