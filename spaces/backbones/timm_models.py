"""Models of timm by name, made for a task.

Wightman, "PyTorch Image Models", 2019. timm is imported when a model is asked for, never before.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from math import gcd
from typing import Any

import torch
from torch import nn

from spaces.backbones.timm_state import classifiers
from spaces.backbones.timm_weights import ELSEWHERE, pretrained_arguments
from spaces.contract.error_lines import first_line
from spaces.contract.new_heads import start_at_zero
from spaces.contract.task import Task

SMALL = (
    "resnet18",
    "mobilenetv2_100",
    "efficientnet_b0",
    "regnetx_002",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
)
TIMM = "timm:"  # may stand before the name of a model
LONGEST_NAME = 100  # characters
_FEWEST_PATCHES = 7  # on an image's shorter side: as many as a 32-pixel patch leaves of 224 pixels
_STEMS = ("conv1", "maxpool", "stem", "conv_stem")


def known(name: str) -> str:
    """The name of a timm model, `timm:` in front left out. Raises ValueError with the nearest name otherwise."""
    name = name.removeprefix(TIMM)
    if name in SMALL:
        return name
    import timm

    if not timm.is_model(name):
        name = name[:LONGEST_NAME]  # comparing long ones takes minutes
        nearest = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.0)
        raise ValueError(f"{name} is not a timm model; did you mean {nearest[0]}?")
    try:
        timm.models.get_pretrained_cfg(name)
    except RuntimeError:
        tags = [
            one.partition(".")[2] for one in timm.list_pretrained(f"{name.partition('.')[0]}.*")
        ]
        raise ValueError(f"{name}: timm has no such weights; known: {', '.join(tags)}") from None
    return name


def created(name: str, task: Task, *, pretrained: bool = False, stem: str = "keep") -> nn.Module:
    """The timm model for the task's images and classes. Raises ValueError where there is none, or no weights."""
    import timm

    arguments = _arguments(name, task) | (pretrained_arguments(name) if pretrained else {})
    try:
        model = timm.create_model(name, **arguments)
    except Exception as error:
        if not pretrained:
            raise
        raise _not_loaded(name, error) from None
    if pretrained and model.default_cfg["num_classes"] != task.classes:  # type: ignore[index]
        start_at_zero(model, classifiers(model))
    if stem == "small":
        _keep_pixels(model, name)
    return model


def published_state(name: str) -> dict[str, torch.Tensor]:
    """The published tensors of a model by timm's names. Raises ValueError where there are none, or none can be had."""
    import timm

    try:
        name = known(name)
    except ValueError as error:
        raise ValueError(f"init_from: {error}") from None
    arguments = pretrained_arguments(name)
    try:
        return dict(timm.create_model(name, **arguments).state_dict())
    except Exception as error:
        raise _not_loaded(name, error) from None


def pixel_statistics(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of the pixels that the published weights of this name were trained on."""
    import timm

    config = timm.models.get_pretrained_cfg(known(name))
    assert config is not None, f"{name} has no published weights"
    return config.mean, config.std


def own_classifier(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer that answers. Raises ValueError where that is not one, alone."""
    layer = model.get_classifier()  # type: ignore[operator]
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"trunk: {name} does not answer by one linear layer, so its trunk cannot be frozen; "
            "choose trunk: finetuned, or another model"
        )
    return layer


def _not_loaded(name: str, error: Exception) -> ValueError:
    return ValueError(
        f"pretrained: the weights of {name} could not be loaded ({line(error)}); {ELSEWHERE}"
    )


def line(error: Exception) -> str:
    """The first line of an error's message, without a full stop."""
    return first_line(error).rstrip(".")


@cache
def _arguments(name: str, task: Task) -> dict[str, Any]:
    """What the model is created with: sizes too, where the architecture asks for them."""
    common: dict[str, Any] = {"num_classes": task.classes, "in_chans": task.channels}
    if getattr(_outline(name), "dynamic_img_size", False):
        common["dynamic_img_size"] = False  # one size, so that the forward pass has one way
    for sizes in _sizes(name, (task.height, task.width)):
        try:
            _outline(name, **common, **sizes)
            return common | sizes
        except Exception as error:
            if not isinstance(error, TypeError) or "keyword argument" not in str(error):
                raise unfit(name, task, error) from None
    raise ValueError(f"backbone: {name} takes no number of channels or classes")


def _sizes(name: str, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Arguments to try, those first that fewer architectures take: image, patches and windows that fill it."""
    tries: list[dict[str, Any]] = [{"img_size": size}, {}]
    outline = _outline(name)
    own = _side(getattr(getattr(outline, "patch_embed", None), "patch_size", None))
    if not own:
        return tries
    shared = gcd(*size)
    fewest = [p for p in range(own, 0, -1) if shared % p == 0 and min(size) >= p * _FEWEST_PATCHES]
    patch = fewest[0] if fewest else 1
    if patch != own:
        tries.insert(0, {"img_size": size, "patch_size": patch})
    window = _side(
        next((m.window_size for m in outline.modules() if hasattr(m, "window_size")), None)
    )
    if window and (patch, size) != (own, outline.default_cfg["input_size"][1:]):  # type: ignore[index]
        grid = shared // patch
        fitting = [w for w in range(window, 1, -1) if grid % w == 0]
        tries.insert(
            0,
            {
                "img_size": size,
                "patch_size": patch,
                "window_size": fitting[0] if fitting else window,
            },
        )
    return tries


def _outline(name: str, **arguments: Any) -> nn.Module:
    """The model without memory for its weights."""
    import timm

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return timm.create_model(name, **arguments)


def _side(size: Any) -> int:
    """The side of a square of this size; 0 where there is none."""
    sides = tuple(size) if isinstance(size, tuple | list) else (size,)
    return sides[0] if len(set(sides)) == 1 and isinstance(sides[0], int) else 0


def _keep_pixels(model: nn.Module, name: str) -> None:
    """Let the stem's padded convolutions run at every pixel, without pooling, as small images want it."""
    changed = False
    for stem in _STEMS:
        part = getattr(model, stem, None)
        for path, module in list(part.named_modules()) if isinstance(part, nn.Module) else []:
            if (
                isinstance(module, nn.Conv2d)
                and module.stride != (1, 1)
                and module.padding != (0, 0)
            ):
                module.stride, changed = (1, 1), True
            elif isinstance(module, nn.MaxPool2d):
                model.set_submodule(".".join(filter(None, (stem, path))), nn.Identity())
    if not changed:
        raise ValueError(
            f"stem: {name} has no strided convolution with padding at its start; keep its stem"
        )


def unfit(name: str, task: Task, error: Exception) -> ValueError:
    """The error of a model that cannot take the task's images."""
    size = f"{task.height}x{task.width}"
    return ValueError(
        f"backbone: {name} cannot take {size} images ({line(error)}); use larger ones or another model"
    )
