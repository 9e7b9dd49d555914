"""The state dict of a timm model for one that takes images of another size.

timm's own filters come first: they read the files of the papers' authors and resample most tables of positions. What
they leave, as CaiT's, PiT's, VOLO's, NesT's and LeViT's, is resampled here in the same way.

Shapes: B blocks of an image, N places, C channels, H heads, Y x X a grid of places.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

State = dict[str, Tensor]
_POSITIONS, _BIASES = "pos_embed", "attention_biases"
_PATCHES = ("patch_embed.proj.weight", "patch_embed.conv.weight")


def fitted(state: Mapping[str, Tensor], model: nn.Module) -> State:
    """The tensors under the names of the model, tables of positions resampled to its image size.

    What cannot be made to fit stays as it is. A state that fits already is not touched.
    """
    own = model.state_dict()
    if all(name in state and state[name].shape == value.shape for name, value in own.items()):
        return dict(state)
    found = _filtered(dict(state), model)
    grid = _grid(model)
    for name, value in found.items():
        if name in own and value.shape != own[name].shape:
            found[name] = _resampled(name, value, own[name], grid)
    return found


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """The names of the layers that answer, auxiliary ones too."""
    names: Any = getattr(model, "default_cfg", {}).get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _filtered(state: State, model: nn.Module) -> State:
    """What timm's filter for files of this architecture makes of a state; the state where there is none or it fails."""
    module = sys.modules[type(model).__module__]
    keep: Callable[..., Any] | None = getattr(module, "checkpoint_filter_fn", None)
    if keep is None:
        return state
    arguments = (dict(state), model)[: min(2, len(inspect.signature(keep).parameters))]
    try:
        return dict(keep(*arguments))
    except Exception:  # it takes tensors to have the shapes of its own architecture
        return state


def _grid(model: nn.Module) -> tuple[int, int] | None:
    """The patches of the model's images; None where they are not counted."""
    size = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    return size if isinstance(size, tuple) and len(size) == 2 else None


def _resampled(name: str, value: Tensor, own: Tensor, grid: tuple[int, int] | None) -> Tensor:
    if name.endswith(_PATCHES) and value.ndim == own.ndim == 4:
        return _patches(value, own)
    if name.endswith(_BIASES) and value.ndim == own.ndim == 2 and len(value) == len(own):
        return _biases(value, own)
    if not name.endswith(_POSITIONS) or value.ndim != own.ndim:
        return value
    if value.ndim == 3 and value.shape[::2] == own.shape[::2]:
        return _tokens(value, own, grid)
    if value.ndim == 4 and value.shape[:2] == own.shape[:2]:
        # PiT has maps (1, C, Y, X), NesT a sequence of places for each block (1, B, N, C)
        square = own.shape[2] == own.shape[3] and value.shape[2] == value.shape[3]
        if square or value.shape[3] != own.shape[3]:
            return _bicubic(value, own.shape[2:])
        return _sequences(value, own)
    if value.ndim == 4 and value.shape[::3] == own.shape[::3]:  # VOLO: (1, Y, X, C)
        return _bicubic(value.permute(0, 3, 1, 2), own.shape[1:3]).permute(0, 2, 3, 1)
    return value


def _patches(value: Tensor, own: Tensor) -> Tensor:
    """Filters (C, inputs, Y, X) of patches of another size."""
    from timm.layers import resample_patch_embed

    if value.shape[:1] != own.shape[:1] or value.shape[2:] == own.shape[2:]:
        return value
    return resample_patch_embed(value, list(own.shape[2:]))


def _tokens(value: Tensor, own: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """(1, N, C), class tokens first; the places of the file are those of a square."""
    from timm.layers import resample_abs_pos_embed

    places = grid if grid and grid[0] * grid[1] <= own.shape[1] else None
    side = isqrt(own.shape[1])
    places = places or (side, side)
    extra = own.shape[1] - places[0] * places[1]
    if isqrt(value.shape[1] - extra) ** 2 != value.shape[1] - extra:
        return value
    return resample_abs_pos_embed(value, list(places), num_prefix_tokens=extra)


def _sequences(value: Tensor, own: Tensor) -> Tensor:
    """(1, B, N, C): each block's square of places."""
    (_, blocks, old, channels), new = value.shape, own.shape[2]
    a, b = isqrt(old), isqrt(new)
    if a * a != old or b * b != new:
        return value
    maps = value[0].permute(0, 2, 1).reshape(blocks, channels, a, a)
    return _bicubic(maps, (b, b)).reshape(blocks, channels, new).permute(0, 2, 1)[None]


def _biases(value: Tensor, own: Tensor) -> Tensor:
    """(H, N): a bias for each distance along Y and X; distance 0 stays where it is."""
    a, b = isqrt(value.shape[1]), isqrt(own.shape[1])
    if a * a != value.shape[1] or b * b != own.shape[1]:
        return value
    maps = value.reshape(1, -1, a, a)
    resized = F.interpolate(maps.float(), (b, b), mode="bilinear", align_corners=True)
    return resized.to(value.dtype).reshape(len(value), b * b)


def _bicubic(maps: Tensor, size: Any) -> Tensor:
    resized = F.interpolate(maps.float(), tuple(size), mode="bicubic", antialias=True)
    return resized.to(maps.dtype)
