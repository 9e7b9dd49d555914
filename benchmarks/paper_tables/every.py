"""All tables, by their names."""

from __future__ import annotations

from benchmarks.paper_tables import dynamic_transformers, layer_and_channel_gates
from benchmarks.paper_tables.table import PaperTable

MODULES = (layer_and_channel_gates, dynamic_transformers)
TABLES: dict[str, PaperTable] = {table.name: table for module in MODULES for table in module.TABLES}
