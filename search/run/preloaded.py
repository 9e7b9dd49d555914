"""What every worker needs, imported once in the process that workers are forked from.

Imports and nothing else: no thread may start there, and no GPU may be asked for anything, for a fork of a process that
has used one cannot use it. Families of other packages are left to the workers.
"""

from __future__ import annotations

import importlib
import pkgutil

FIRST_USED = (
    "torch._dynamo",  # by the first optimizer
    "sklearn.datasets",  # by digits
    "sklearn.model_selection",
    "search.inspection.measures",
    "search.measure.member_answers",
    "search.measure.operating_points",
    "search.run.group",
    "search.run.number_formats",
    "search.run.worker_process",
    "trainers.frozen",
)
FAMILIES = "spaces.families"

for name in FIRST_USED:
    importlib.import_module(name)
for module in pkgutil.iter_modules(importlib.import_module(FAMILIES).__path__, f"{FAMILIES}."):
    importlib.import_module(module.name)
