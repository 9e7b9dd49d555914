"""All pictures of an inspection, in the order in which they are shown."""

from __future__ import annotations

from typing import Any

from search.inspection import (
    attention,
    class_rates,
    cost_shares,
    embedding,
    exits,
    images,
    layer_mixing,
    layer_moves,
    mistakes,
    skip_patterns,
)
from search.inspection.picture import Picture

PICTURES: tuple[Picture[Any], ...] = (
    cost_shares.PICTURE,
    images.PICTURE,
    mistakes.PICTURE,
    exits.PICTURE,
    attention.PICTURE,
    class_rates.PICTURE,
    skip_patterns.PICTURE,
    layer_mixing.PICTURE,
    layer_moves.PICTURE,
    embedding.PICTURE,
)
