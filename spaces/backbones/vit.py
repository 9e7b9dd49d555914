"""The plain vision transformer: backbone of routed transformers and their static reference.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR, 2021. Pre-norm,
a class token, learned positions. With two class tokens it is a distilled DeiT, which answers by the mean of two
classifiers: Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML, 2021.
Attention is written out, so that its products can be counted and every execution computes the same numbers. Differs: an
image that patches do not fill is padded with zeros.

Shapes: B images, N tokens (class tokens first), D width, H heads, M hidden units of an MLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.backbones.timm_models import TIMM
from spaces.backbones.timm_vits import NO_BACKBONE, SOME, is_timms, known_vit, renamed
from spaces.contract.compute import conv_macs, linear_macs
from spaces.contract.space import BELOW_ONE, choice, flag, real, whole_from
from spaces.contract.task import Task

# dimensions of a ViT, beside layers and dim
PLAIN = (
    "head_dim",
    "mlp_ratio",
    "patch",
    "hidden_dropout",
    "cifar_quirks",
    "backbone",
    "pretrained",
    "norm_eps",
    "class_tokens",
)


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Size of a vision transformer."""

    layers: int = choice(
        2, 3, 4, 6, 8, 10, 12, 16, default=6, accepts=whole_from(1, 64), doc="transformer layers"
    )  # fmt: skip
    dim: int = choice(
        32, 64, 96, 128, 192, 384, default=64, accepts=whole_from(8, 4096), searched=False,
        doc="width of a token",
    )  # fmt: skip
    head_dim: int = choice(
        16, 32, 64, default=32, accepts=whole_from(4, 256), searched=False,
        doc="width of an attention head",
    )  # fmt: skip
    mlp_ratio: int = choice(
        1, 2, 4, default=2, accepts=whole_from(1, 16), searched=False,
        doc="hidden units of a layer's MLP over its width",
    )  # fmt: skip
    patch: int = choice(
        2, 4, 8, 14, 16, default=4, accepts=whole_from(1, 64), searched=False,
        doc="pixels on a patch's side",
    )  # fmt: skip
    hidden_dropout: float = real(
        0.0, 0.5, within=BELOW_ONE, default=0.0, searched=False, doc="of features in training"
    )
    cifar_quirks: bool = flag(
        default=False,
        searched=False,
        doc="scale attention by the width, activate after the MLP, as a public recipe does",
    )
    backbone: str = choice(
        NO_BACKBONE, *SOME, accepts=known_vit, searched=False, later=True,
        doc="a ViT or DeiT of timm by its name: all sizes are its own, fewer layers are its first ones",
    )  # fmt: skip
    pretrained: bool = flag(
        default=False, searched=False, later=True,
        doc="start from the backbone's published weights, which are downloaded",
    )  # fmt: skip
    norm_eps: float = choice(
        1e-5, 1e-6, searched=False, later=True, doc="added to variances by layer norms; timm's: 1e-6"
    )  # fmt: skip
    class_tokens: int = choice(
        1, 2, searched=False, later=True,
        doc="2: also a distillation token with a classifier of its own, as in DeiT",
    )  # fmt: skip

    @property
    def published(self) -> str | None:
        """The published weights that a training starts from, if the config asks for some."""
        return f"{TIMM}{self.backbone}" if self.pretrained else None


class Layer(nn.Module):
    """One pre-norm transformer layer: attention and MLP, each added to its input."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.dim * config.mlp_ratio
        self.heads = dim // min(config.head_dim, dim)
        if dim % self.heads:
            raise ValueError(f"head_dim: {config.head_dim} does not divide dim, {dim}")
        self.scale = dim**-0.5 if config.cifar_quirks else (dim // self.heads) ** -0.5
        self.activate_last = config.cifar_quirks
        self.dropout = config.hidden_dropout
        self.norm1, self.norm2 = (nn.LayerNorm(dim, config.norm_eps) for _ in range(2))
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, u_BND: Tensor) -> Tensor:
        u_BND = u_BND + self._dropped(self.attention(self.norm1(u_BND)))
        hidden = self._dropped(F.gelu(self.up(self.norm2(u_BND))))
        update = self.down(hidden)
        return u_BND + self._dropped(F.gelu(update) if self.activate_last else update)

    def attention(self, x_BND: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(x_BND).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        weights_BHNN = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1)
        return self.out((weights_BHNN @ v).transpose(1, 2).flatten(2))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def macs(self, tokens: int) -> int:
        """MACs of one image of `tokens` tokens: 4 N D^2 + 2 N^2 D + 2 N D M."""
        linears = (self.qkv, self.out, self.up, self.down)
        return (
            sum(linear_macs(one, tokens) for one in linears)
            + 2 * tokens * tokens * self.out.in_features
        )


class ViT(nn.Module):
    """The parts of a plain ViT and their MACs; subclasses decide how they are run."""

    def __init__(self, config: ViTConfig, task: Task) -> None:
        super().__init__()
        if config.patch > min(task.height, task.width):
            raise ValueError(
                f"patch: {config.patch} pixels do not fit an image of {task.height}x{task.width}; take a smaller one"
            )
        self.task, self.backbone = task, config.backbone
        self.grid = (ceil(task.height / config.patch), ceil(task.width / config.patch))
        self.class_tokens = config.class_tokens
        self.tokens = self.grid[0] * self.grid[1] + self.class_tokens
        self.pad = (
            0, self.grid[1] * config.patch - task.width, 0, self.grid[0] * config.patch - task.height,
        )  # fmt: skip
        self.patches = nn.Conv2d(task.channels, config.dim, config.patch, config.patch)
        self.cls = nn.Parameter(torch.zeros(1, self.class_tokens, config.dim))
        self.positions = nn.Parameter(torch.empty(1, self.tokens, config.dim))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.layer_macs = Layer.macs(self.layers[0], self.tokens)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(config.dim, config.norm_eps)
        self.fc = nn.Linear(config.dim, task.classes)
        self.fc_dist = nn.Linear(config.dim, task.classes) if self.class_tokens > 1 else None
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.trunc_normal_(self.cls, std=0.02)
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)  # a fixed 0.02 starves narrow networks
                nn.init.zeros_(module.bias)

    def plain_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of a ViT of ours or timm's, for images and patches of another size.

        Positions of patches and their filters are resampled. Of a named backbone the first layers are enough.
        """
        given = renamed(state) if is_timms(state) else dict(state)
        for name, own in (("positions", self._positions), ("patches.weight", self._filters)):
            if name in given:
                given[name] = own(given[name])
        return {name: value for name, value in given.items() if not self._is_left_out(name)}

    def _positions(self, given_1ND: Tensor) -> Tensor:
        from timm.layers import resample_abs_pos_embed

        places = given_1ND.shape[1] - self.class_tokens
        if given_1ND.shape[1] == self.tokens or isqrt(places) ** 2 != places:
            return given_1ND  # of the latter nobody knows the order
        grid = list(self.grid)
        return resample_abs_pos_embed(given_1ND, grid, num_prefix_tokens=self.class_tokens)

    def _filters(self, given: Tensor) -> Tensor:
        from timm.layers import resample_patch_embed

        if given.shape[2:] == self.patches.weight.shape[2:]:
            return given
        return resample_patch_embed(given, list(self.patches.kernel_size))

    def _is_left_out(self, name: str) -> bool:
        """Whether a tensor is of a layer of the backbone behind the last one that is kept."""
        part, _, rest = name.partition(".")
        if self.backbone == NO_BACKBONE or part != "layers":
            return False
        return int(rest.partition(".")[0]) >= len(self.layers)

    @property
    def classifiers(self) -> tuple[str, ...]:
        return () if self.fc_dist is None else ("fc", "fc_dist")

    def stem(self, images: Tensor) -> Tensor:
        """(B, N, D) tokens of (B, C, H, W) images."""
        patches = (
            self.patches(F.pad(images, self.pad) if any(self.pad) else images)
            .flatten(2)
            .transpose(1, 2)
        )
        return torch.cat([self.cls.expand(images.shape[0], -1, -1), patches], 1) + self.positions

    def head_feature(self, u: Tensor) -> Tensor:
        """(B, D) the class token that the head reads."""
        return self.norm(u[:, 0])

    def head(self, u: Tensor) -> Tensor:
        """(B, C) logits; with a distillation token the mean of both classifiers'."""
        logits_BC = self.fc(self.head_feature(u))
        if self.fc_dist is None:
            return logits_BC
        return (logits_BC + self.fc_dist(self.norm(u[:, 1]))) / 2

    def stem_macs(self) -> int:
        return conv_macs(self.patches, *self.grid)

    def answer_macs(self) -> int:
        """MACs of the classifiers."""
        return linear_macs(self.fc) * self.class_tokens

    def total_macs(self) -> int:
        return self.stem_macs() + len(self.layers) * self.layer_macs + self.answer_macs()
