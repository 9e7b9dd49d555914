"""How many cores there are to train with."""

from __future__ import annotations

import os

OPENMP = "OMP_NUM_THREADS"


def cores() -> int:
    """Cores that this process may use: those of the machine, within its affinity and its container's quota."""
    import joblib  # needed by a search alone

    return int(joblib.cpu_count())


def cores_alone() -> int:
    """Threads of a training that has the machine to itself: as OMP_NUM_THREADS says, else all cores."""
    said = os.environ.get(OPENMP, "").partition(",")[0].strip()
    return int(said) if said.isdigit() and int(said) else cores()
