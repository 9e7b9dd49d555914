"""Gates that skip whole transformer layers, and what trains them.

The skipping oracle on class token and history follows Mersha, "Dynamic Transformer Networks", Dynamic Neural Networks
workshop at ICML, 2022. The head on pooled features and data-independent gates are those of residual networks, see
spaces.gates.gate_heads. Differs: the default trains oracles straight through the layers (`st`), for the published form
(`literal`) gives them no gradient from the cross-entropy, and its loss on logits (`logit_sq`) prefers no skipping.

Shapes: B images, A of them still in, D width, U = 1 unit of a gate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.forward_pass import Walk
from spaces.contract.net import Output
from spaces.contract.policies import REINFORCE, Policy, Sampled
from spaces.contract.space import SHARE, WEIGHT, choice, one_of, real
from spaces.contract.truth import Labels
from spaces.gates.gate_heads import noise_ends, relaxed_schedule, relaxed_temperature
from spaces.gates.gate_objective import GateObjective
from spaces.gates.sparsity import DRAWN, LOSSES, TARGETED, SparsityConfig

_SQUARES = ("logit_sq", "score_sq")
# each once, in the order of the choices in stored studies; a new loss of gates comes last
_LOSSES = tuple(dict.fromkeys((*_SQUARES[::-1], "per_batch", *TARGETED, "utility", *DRAWN)))
_SEARCHED = ("dt", "cls", "independent")
SHARED = "shared"
_ANY = (*_SEARCHED, SHARED)
READS_HISTORY = ("dt", SHARED)
SUMMARY = 2  # numbers of the history that a shared oracle reads


@dataclass(frozen=True, kw_only=True)
class OracleConfig:
    """Which gates decide about layers."""

    oracle: str = choice(
        "none", *_SEARCHED, default="none", accepts=one_of("none", *_ANY), searched=False,
        doc="class token and history of skips; class token and a hidden layer; a learned rate; also shared: one oracle "
        "for all layers",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SkippingConfig(SparsityConfig, OracleConfig):
    """How gates of layers learn, and which layers always run."""

    loss: str = choice(
        *_LOSSES, default="per_batch", accepts=one_of(*dict.fromkeys((*_LOSSES, *LOSSES))), when={"oracle": _ANY},
        doc="press scores or logits to 0, or pull gates, the batch's mean or the MACs to a target; also l0, pressure "
        "that sets in late, as behind batch_shaping",
    )  # fmt: skip
    skip_weight: float = real(
        0.01,
        10.0,
        within=WEIGHT,
        default=1.0,
        log=True,
        when={"loss": _SQUARES},
        doc="of the loss on scores or logits",
    )
    lambda_layer: float = real(
        0.003,
        0.3,
        within=WEIGHT,
        default=0.05,
        log=True,
        when={"loss": ("target_free",)},
        doc="pressure on layer gates",
    )
    dt_grad: str = choice(
        "literal", "st", "soft_scale", default="st", when={"oracle": _ANY}, searched=False,
        doc="gradient to the oracles: from their loss only, straight through, or by scaling what runs",
    )  # fmt: skip
    dt_history: str = choice(
        "soft", "hard", "none", default="soft", when={"oracle": READS_HISTORY},
        doc="what an oracle reads of earlier ones: scores, decisions, nothing",
    )  # fmt: skip
    dt_always: str = choice(
        "first", "first_last", "none", default="first_last", when={"oracle": _ANY}, searched=False,
        doc="layers without a gate",
    )  # fmt: skip
    gate_hidden: int = choice(
        8,
        16,
        32,
        default=16,
        when={"oracle": ("cls",)},
        searched=False,
        doc="units of the hidden layer",
    )
    bias_init: float = real(
        0.0,
        4.0,
        default=1.9,
        when={"oracle": _ANY},
        searched=False,
        doc="initial logit; 1.9 opens 87 % of the gates",
    )
    estimator: str = choice(
        "st", "gumbel_st", default="gumbel_st", when={"oracle": _ANY, "dt_grad": ("st",)}, searched=False,
        accepts=one_of("st", "gumbel_st", REINFORCE),
        doc="hard decisions in training, or hard noisy ones; also reinforce, hard draws that are rewarded",
    )  # fmt: skip
    temperature: float = relaxed_temperature()
    temperature_schedule: str = relaxed_schedule()
    noise_off: float = noise_ends()
    open_warmup: float = real(
        0.0, 0.3, within=SHARE, default=0.0, when={"oracle": _ANY}, searched=False,
        doc="first fraction of the training with every gate open",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if (
            self.oracle != "none"
            and self.dt_grad == "literal"
            and self.loss not in (*_SQUARES, "none")
        ):
            raise ValueError(
                f"dt_grad: literal oracles learn from their own scores only, so loss {self.loss} cannot reach them; "
                "take loss score_sq or logit_sq, or dt_grad st"
            )


class Oracle(nn.Module):
    """The gate of one layer: reads the class token (and `history` earlier scores), gives one logit.

    A `shared` one is the gate of all `layers`: it reads the mean of earlier scores and the last one in place of all of
    them, and how deep it stands. Its parameters and what it costs a layer do not depend on how many layers there are.
    """

    def __init__(self, config: SkippingConfig, dim: int, history: int, layers: int = 1) -> None:
        super().__init__()
        self.kind, self.layers = config.oracle, layers
        self.reads = history if config.dt_history != "none" else 0
        if self.kind == SHARED:
            self.reads = (SUMMARY if config.dt_history != "none" else 0) + 1
        self.own_macs = 0
        if self.kind == "independent":
            self.bias = nn.Parameter(torch.full((1,), config.bias_init))
            return
        if self.kind == "cls":
            self.hidden = nn.Linear(dim, config.gate_hidden)
            self.head = nn.Linear(config.gate_hidden, 1)
            self.own_macs = (dim + 1) * config.gate_hidden
        else:
            self.head = nn.Linear(dim + self.reads, 1)
            self.own_macs = dim + self.reads
        nn.init.normal_(self.head.weight, std=0.001)
        nn.init.constant_(self.head.bias, config.bias_init)

    def forward(self, cls_AD: Tensor, history_AJ: Tensor) -> Tensor:
        """(A, 1) logits, (1, 1) when independent of the image; at least float32."""
        if self.kind == "independent":
            return self.bias.clone()[None]
        if self.kind == "cls":
            logit = self.head(F.relu(self.hidden(cls_AD)))
        elif self.kind == SHARED:
            logit = self.head(torch.cat([cls_AD, self._summary(history_AJ).to(cls_AD.dtype)], 1))
        else:
            known = history_AJ[:, history_AJ.shape[1] - self.reads :].to(cls_AD.dtype)
            logit = self.head(torch.cat([cls_AD, known], 1) if self.reads else cls_AD)
        return logit.float() if logit.dtype in (torch.float16, torch.bfloat16) else logit

    def _summary(self, history_AJ: Tensor) -> Tensor:
        """(A, reads) the share of the layers that lie before, the mean of earlier scores and the last one.

        Before the first layer scores are 1, as for a layer that always runs.
        """
        place = history_AJ.shape[1]
        depth_A1 = history_AJ.new_full((history_AJ.shape[0], 1), place / self.layers)
        if self.reads == 1:
            return depth_A1
        if not place:
            return torch.cat([depth_A1, depth_A1.new_ones(depth_A1.shape[0], SUMMARY)], 1)
        return torch.cat([depth_A1, history_AJ.mean(1, keepdim=True), history_AJ[:, -1:]], 1)


def remember(walk: Walk, score_A1: Tensor, size: int) -> None:
    """Append one layer's scores (A or 1, 1) to the history of the `size` samples still in."""
    one = score_A1.expand(size, 1)
    known = walk.memory.get("history")
    walk.memory["history"] = one if known is None else torch.cat([known.to(one.dtype), one], 1)


class SkippingObjective(GateObjective):
    """The losses of gates, and the published ones on oracles' scores and logits."""

    def policy(self, step: int, ids_B: Tensor) -> Policy:
        policy = super().policy(step, ids_B)
        if isinstance(policy, Sampled) and self.config.dt_grad != "st":
            return replace(policy, estimator="st", noisy=False)
        return policy

    def losses(self, output: Output, labels: Labels) -> dict[str, Tensor]:
        if self.config.loss not in _SQUARES:
            return super().losses(output, labels)
        terms = super(GateObjective, self).losses(output, labels) | (
            {} if self.warming_up else self._shaping(output)
        )
        logits = output.extra.get("oracle_logits")
        if logits:  # none while all gates are held open
            logit = torch.cat([one.flatten() for one in logits])
            value = logit if self.config.loss == "logit_sq" else torch.sigmoid(logit)
            terms[self.config.loss] = self.config.skip_weight * value.square().mean()
        return terms

    def report(self) -> dict[str, float]:
        return {} if self.config.loss in _SQUARES else super().report()

    @property
    def settled(self) -> bool:
        return not self.warming_up if self.config.loss in _SQUARES else super().settled
