"""A loss that shapes how often each gate is how sure, so that gates stay conditional instead of collapsing.

Ehteshami Bejnordi, Blankevoort and Welling, "Batch-Shaping for Learning Conditional Channel Gated Networks", ICLR,
2020. Each gate's probabilities over a batch are sorted and their distribution is pulled to a Beta distribution.

Shapes: B samples, G gate units, T points of a table.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor

TABLE = 4097
SLOPES = (1e-3, 100.0)  # the density of a Beta is 0 or infinite at its ends


def batch_shaping(p_BG: Tensor, a: float, b: float) -> Tensor:
    """Mean over gates and sorted samples i of (CDF of Beta(a, b) at the i-th probability - i / (B + 1))^2."""
    sorted_BG = p_BG.float().sort(0).values
    cdf_BG, slope_BG = _looked_up(sorted_BG.detach(), a, b)
    cdf_BG = cdf_BG + slope_BG * (sorted_BG - sorted_BG.detach())
    ranks_B = torch.arange(1, len(p_BG) + 1, device=p_BG.device) / (len(p_BG) + 1)
    return (cdf_BG - ranks_B[:, None]).square().mean()


def _looked_up(x_BG: Tensor, a: float, b: float) -> tuple[Tensor, Tensor]:
    """(the CDF at x, the density there kept within SLOPES), both without gradient."""
    cdf_T, pdf_T = (table.to(x_BG.device) for table in _tables(a, b))
    place = x_BG.clamp(0, 1) * (TABLE - 1)
    low = place.floor().long().clamp(max=TABLE - 2)
    share = place - low
    cdf = cdf_T[low] + share * (cdf_T[low + 1] - cdf_T[low])
    return cdf, pdf_T[low] + share * (pdf_T[low + 1] - pdf_T[low])


@lru_cache(maxsize=8)
def _tables(a: float, b: float) -> tuple[Tensor, Tensor]:
    x = np.linspace(0, 1, TABLE)
    density = np.clip(beta.pdf(x, a, b), *SLOPES)
    return torch.tensor(beta.cdf(x, a, b), dtype=torch.float32), torch.tensor(
        density, dtype=torch.float32
    )
