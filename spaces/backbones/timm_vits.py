"""timm's plain vision transformers as ours: their sizes, and their tensors under our names.

Wightman, "PyTorch Image Models", 2019. ViT: Dosovitskiy et al., ICLR, 2021. DeiT, with a distillation token: Touvron,
Cord, Douze, Massa, Sablayrolles and Jegou, "Training data-efficient image transformers & distillation through
attention", ICML, 2021. A scale of what a layer adds (LayerScale) is multiplied into the weights that it follows, so the
answers are the same. timm is imported when a model is asked for, never before.

Shapes: N tokens (class tokens first), D width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from spaces.backbones.timm_models import known
from spaces.contract.space import Dimension, whole_from

NO_BACKBONE = "none"
SOME = (
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit_base_distilled_patch16_224",
)
_LAYER = re.compile(r"blocks\.(\d+)\.(.+)")
_IN_LAYER = {
    "norm1": "norm1", "attn.qkv": "qkv", "attn.proj": "out",
    "norm2": "norm2", "mlp.fc1": "up", "mlp.fc2": "down",
}  # fmt: skip
_OUTSIDE = {"patch_embed.proj": "patches", "norm": "norm", "head": "fc", "head_dist": "fc_dist"}
_SCALES = {"ls1.gamma": "out", "ls2.gamma": "down"}
_TOKENS = ("cls_token", "dist_token")


def known_vit(name: str) -> str:
    """The name of a timm model that is a plain ViT. Raises ValueError that says what it is instead."""
    name = known(name)
    sizes_of(name)
    return name


@cache
def sizes_of(name: str) -> dict[str, Any]:
    """What the dimensions of a ViT are in the timm model of this name. Raises ValueError where it is no plain ViT."""
    import timm

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model: Any = timm.create_model(name)
    if reason := unlike(model):
        raise ValueError(
            f"{name} is no plain vision transformer ({reason}); take a ViT or DeiT, or the family timm"
        )
    first = model.blocks[0]
    heads, dim = first.attn.num_heads, model.embed_dim
    return {
        "layers": len(model.blocks),
        "dim": dim,
        "head_dim": dim // heads,
        "mlp_ratio": first.mlp.fc1.out_features // dim,
        "patch": model.patch_embed.patch_size[0],
        "norm_eps": first.norm1.eps,
        "class_tokens": model.num_prefix_tokens,
    }


def sized(space: Sequence[Dimension], name: str) -> tuple[Dimension, ...]:
    """The space of a named model: its sizes are fixed, but fewer layers and other patches may be named."""
    if name == NO_BACKBONE:
        return tuple(space)
    sizes = {**sizes_of(name), "cifar_quirks": False}
    return tuple(_sized(d, sizes) if d.name in sizes else d for d in space)


def _sized(d: Dimension, sizes: Mapping[str, Any]) -> Dimension:
    own = sizes[d.name]
    accepts = {"layers": whole_from(1, sizes["layers"]), "patch": d.accepts}.get(d.name)
    return replace(d, choices=(own,), default=own, searched=False, accepts=accepts)


def unlike(model: Any) -> str:
    """What a timm model has that our ViT has not, in words; empty where both compute the same."""
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    if type(model) not in (VisionTransformer, VisionTransformerDistilled):
        return f"it is a {type(model).__name__}"
    if model.global_pool != "token":
        return "it does not answer by its class token"
    first = model.blocks[0]
    if type(first).__name__ != "Block":
        return f"its layers are {type(first).__name__}"
    activation = first.mlp.act
    if not isinstance(activation, nn.GELU) or activation.approximate != "none":
        return f"its MLPs activate by {type(activation).__name__}"
    if isinstance(model.norm_pre, nn.LayerNorm):
        return "it has norm_pre.weight"
    return _odd_tensor(model)


def _odd_tensor(model: nn.Module) -> str:
    """A tensor that has no place here, or whose shape is none of ours."""
    state = model.state_dict()
    found = renamed(state)
    left = [name for name in state if name not in (*_TOKENS, "pos_embed") and not _name(name)]
    left = [name for name in left if not name.endswith(tuple(_SCALES))]
    if left:
        return f"it has {left[0]}"
    wanted = [f"layers.0.{part}.bias" for part in _IN_LAYER.values()] + ["cls", "patches.bias"]
    if lacks := [name for name in wanted if name not in found]:
        return f"it has no {lacks[0]}"
    width, hidden = found["layers.0.down.weight"].shape
    return "" if hidden % width == 0 else f"its MLPs have {hidden} units at a width of {width}"


def is_timms(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of timm's ViTs."""
    return "patch_embed.proj.weight" in state and "blocks.0.attn.qkv.weight" in state


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A timm ViT's tensors under our names. What has no place here keeps its own name, so that loading names it."""
    found = {_name(name) or name: value for name, value in state.items()}
    tokens = [found.pop(name) for name in _TOKENS if name in found]
    if tokens:
        found["cls"] = torch.cat(tokens, 1)
    if "pos_embed" in found:
        found["positions"] = _with_class_tokens(found.pop("pos_embed"), len(tokens))
    for name in [one for one in found if one.endswith(tuple(_SCALES))]:
        _multiply_in(found, name)
    return found


def _name(name: str) -> str | None:
    """Our name of a tensor that only changes its name."""
    layer = _LAYER.fullmatch(name)
    part, _, kind = (layer[2] if layer else name).rpartition(".")
    own = (_IN_LAYER if layer else _OUTSIDE).get(part)
    if own is None:
        return None
    return f"layers.{layer[1]}.{own}.{kind}" if layer else f"{own}.{kind}"


def _with_class_tokens(positions_1ND: Tensor, tokens: int) -> Tensor:
    """Positions of all tokens; zeros for class tokens where the file has those of a square of patches alone."""
    count = positions_1ND.shape[1]
    if round(count**0.5) ** 2 != count:
        return positions_1ND
    zeros = positions_1ND.new_zeros(1, tokens, positions_1ND.shape[2])
    return torch.cat([zeros, positions_1ND], 1)


def _multiply_in(found: dict[str, Tensor], name: str) -> None:
    """Multiply a scale into the linear layer before it."""
    layer = _LAYER.fullmatch(name)
    assert layer is not None
    before = f"layers.{layer[1]}.{_SCALES[layer[2]]}"
    scale_D = found.pop(name)
    found[f"{before}.weight"] = found[f"{before}.weight"] * scale_D[:, None]
    found[f"{before}.bias"] = found[f"{before}.bias"] * scale_D
