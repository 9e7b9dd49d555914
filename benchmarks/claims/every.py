"""All claims, by paper."""

from __future__ import annotations

from benchmarks.claims import (
    dynamic_transformers,
    layer_and_channel_gates,
    layershuffle,
    probabilistic_gates,
    scan,
)
from benchmarks.claims.claim import Claim

MODULES = (probabilistic_gates, layer_and_channel_gates, scan, dynamic_transformers, layershuffle)
TITLES = {
    "probabilistic_gates": "Herrmann, Bowen, Zabih: Deep networks with probabilistic gates, 2018",
    "layer_and_channel_gates": "Ehteshami Bejnordi, Krestel: Dynamic channel and layer gating, KI 2020",
    "scan": "Zhang, Tan, Song, Chen, Bao, Ma: SCAN, NeurIPS 2019",
    "dynamic_transformers": "Mersha: Dynamic transformer networks, DyNN workshop at ICML 2022",
    "layershuffle": "Freiberger, Kun, Løvlie, Risi: LayerShuffle, 2024",
}
CLAIMS: tuple[Claim, ...] = tuple(claim for module in MODULES for claim in module.CLAIMS)


def chosen(name: str | None) -> list[Claim]:
    """The claims of a paper, or the one of this name; all for None. Raises ValueError naming what there is."""
    found = [claim for claim in CLAIMS if name in (None, claim.paper, claim.name)]
    if not found:
        names = [
            f"{paper} ({', '.join(c.name for c in CLAIMS if c.paper == paper)})" for paper in TITLES
        ]
        raise ValueError(
            f"--only: {name} is neither a paper nor a claim; there are {'; '.join(names)}"
        )
    return found
