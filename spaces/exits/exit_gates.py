"""Learned gates that decide whether an image leaves at an exit.

Two convolutions follow Herrmann, Bowen and Zabih, "Deep networks with probabilistic gates", 2018. Differs:
"conv" has ReLUs, and means over the whole map; "published" does not.

Shapes: B images, A of them still in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.compute import conv_macs, linear_macs
from spaces.contract.exit_places import Place
from spaces.exits.exit_heads import Pool


class ExitGate(nn.Module):
    """A logit for staying, from the features before an exit. Starts open: at first nearly everybody stays."""

    def __init__(self, kind: str, place: Place, tokens: bool) -> None:
        super().__init__()
        self.conv = kind != "light" and not tokens
        self.tokens = tokens
        channels = place.channels
        if self.conv:
            self.convs = nn.ModuleList(
                [nn.Conv2d(channels, 128, 3, 1, 1), nn.Conv2d(128, 128, 3, 1, 1)]
            )
            self.norms = nn.ModuleList([nn.BatchNorm2d(128), nn.BatchNorm2d(128)])
            area = (place.height, place.width)
            self.pool = Pool(4 if kind == "published" else None, *area)
            self.act = nn.Identity() if kind == "published" else nn.ReLU()
            self.fc = nn.Linear(128 * self.pool.places, 1)
            self.own_macs = linear_macs(self.fc) + sum(
                conv_macs(c, *area) for c in self.convs if isinstance(c, nn.Conv2d)
            )
        else:
            self.hidden = nn.Linear(channels, 16)
            self.fc = nn.Linear(16, 1)
            self.own_macs = linear_macs(self.hidden) + linear_macs(self.fc)
        nn.init.normal_(self.fc.weight, std=0.001)
        nn.init.constant_(self.fc.bias, 1.0)

    def forward(self, u: Tensor) -> Tensor:
        """(A, 1) logits, at least float32."""
        if self.conv:
            for conv, norm in zip(self.convs, self.norms, strict=True):
                u = self.act(norm(conv(u)))
            logit = self.fc(self.pool(u))
        else:
            logit = self.fc(F.relu(self.hidden(u[:, 0] if self.tokens else u.mean((2, 3)))))
        return logit.float() if logit.dtype in (torch.float16, torch.bfloat16) else logit
