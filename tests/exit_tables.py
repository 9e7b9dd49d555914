"""Tables of exits drawn at random, on which thresholds are searched."""

from __future__ import annotations

import numpy as np

from search.measure.exit_grid import ExitTable


def drawn(exits: int = 2, images: int = 200, seed: int = 0) -> ExitTable:
    """Exits of which later ones are more often right and sure answers more often right than unsure ones."""
    draw = np.random.default_rng(seed)
    ease = draw.random(images)
    confidence = (
        np.clip(ease[None] + draw.normal(0, 0.15, (exits, images)), 0.01, 0.999) * 0.5 + 0.5
    )
    skill = np.linspace(0.5, 0.9, exits + 1)[:, None]
    correct = draw.random((exits + 1, images)) < np.clip(skill * (0.4 + ease), 0, 1)
    macs = np.broadcast_to(np.linspace(1e6, 4e6, exits + 1)[:, None], (exits + 1, images)).copy()
    return ExitTable(confidence, correct, macs, draw.random(images) < 0.9)
