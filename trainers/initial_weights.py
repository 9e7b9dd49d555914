"""Weights that a training starts from: a file of the user's, or those of torchvision or timm where they can be had.

Shapes: none fixed; tensors are matched by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from spaces.backbones.timm_models import published_state
from spaces.contract.error_lines import first_line
from spaces.contract.net import DynamicNet
from spaces.contract.new_heads import start_at_zero
from spaces.exits.timm_trunk import TimmTrunk
from trainers.data.paths import LIBRARIES, TIMM, TORCHVISION, expanded, weights_file
from trainers.weights_source import tensors_of

TRAINING = "training:"  # before the digest of what a checkpoint of ours is of
# tensors that a network computes for itself, which other versions of its code keep
COMPUTED = (
    "num_batches_tracked",
    "relative_position_index",
    "relative_coords_table",
    "attention_bias_idxs",
    "attn_mask",
)


@lru_cache(maxsize=2)
def initial_state(source: str) -> dict[str, Tensor]:
    """Tensors by name from PATH (safetensors, or what torch saved), `torchvision:NAME` or `timm:NAME`.

    Nothing in a file is executed. Raises ValueError with one line.
    """
    if source.startswith(TORCHVISION):
        return _torchvision(source.removeprefix(TORCHVISION))
    if source.startswith(TIMM):
        return published_state(source.removeprefix(TIMM))
    return tensors_of(weights_file(source), source)


def _torchvision(source: str) -> dict[str, Tensor]:
    """Those of NAME that torchvision recommends, or NAME.WEIGHTS: resnet50.IMAGENET1K_V1."""
    import torchvision

    name, _, weights = source.partition(".")
    if name not in torchvision.models.list_models():
        from spaces.contract.space import nearest

        known = nearest(name, torchvision.models.list_models())
        raise ValueError(f"init_from: torchvision has no model {name}{known}")
    named = [one.name for one in torchvision.models.get_model_weights(name)]
    if weights and weights not in named:
        raise ValueError(
            f"init_from: torchvision has no weights {weights} of {name}; it has {', '.join(named)}"
        )
    try:
        return dict(torchvision.models.get_model(name, weights=weights or "DEFAULT").state_dict())
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"init_from: the weights of torchvision:{source} cannot be had on this machine "
            f"({first_line(error)}); download them elsewhere and give the file"
        ) from None


def digest(source: str) -> str | None:
    """What tells two sources apart: a model's name, what was trained for how long, the content of any other file.

    A training of ours that is done again is the same source. None when the file is gone.
    """
    if source.startswith(LIBRARIES):
        return source
    path = expanded(source)
    if not path.is_file():
        return None
    if (training := _training(path)) is not None:
        return TRAINING + hashlib.sha256(training.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _training(path: Path) -> str | None:
    """What was trained, and its epochs so far, if the file is a training's checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
        return json.dumps([state["identity"], state["epochs_done"]], sort_keys=True)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def start_from(net: DynamicNet, source: str, needed: Iterable[str]) -> int:
    """Load the weights that `source` has for the plain part of the network; returns how many tensors were loaded.

    `needed` are the names of the baseline's tensors. A classifier for another number of classes, or one that the file
    does not have, starts at zero; filters of colour images are summed for gray ones.
    Raises ValueError, the network unchanged, when tensors lack, have other shapes, or find no place.
    """
    given, own = net.plain_state(initial_state(source)), net.state_dict()
    if source.startswith(TIMM) and isinstance(net, TimmTrunk):
        net.check_pixels(source.removeprefix(TIMM))
    wanted = [name for name in needed if not name.endswith(COMPUTED)]
    classifiers = net.classifiers or (wanted[-1].rpartition(".")[0],)
    trunk = [name for name in wanted if _layer(name) not in classifiers]
    missing = [name for name in trunk if name not in given]
    if missing:
        raise ValueError(
            f"init_from: {source} lacks {len(missing)} of the {len(wanted)} tensors of the baseline, such as "
            f"{missing[0]}; it was made for another architecture"
        )
    chosen = {}
    for name in wanted:
        if name not in given:
            continue
        there, here = tuple(given[name].shape), tuple(own[name].shape)
        if there == here:
            chosen[name] = given[name]
        elif len(there) == 4 and there == (here[0], 3, *here[2:]) and here[1] == 1:
            # what colour filters answer to a gray image
            chosen[name] = given[name].sum(1, keepdim=True)
        elif _layer(name) not in classifiers or there[1:] != here[1:]:
            raise ValueError(
                f"init_from: {source}: {name} has shape {there}, this network needs {here}; fix the sizes in `space` "
                "to those that the file was made with"
            )
    if homeless := _homeless(given, own, wanted, classifiers):
        raise ValueError(
            f"init_from: {source} has {len(homeless)} tensors that this network has no place for, such as "
            f"{homeless[0]}; it was made for a larger network: name that one in `space`"
        )
    net.load_state_dict(chosen, strict=False)
    new = {_layer(name) for name in wanted if name not in chosen}
    start_at_zero(net, sorted(new.intersection(classifiers)))
    return len(chosen)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _homeless(
    given: Mapping[str, Tensor],
    own: Collection[str],
    wanted: Iterable[str],
    classifiers: tuple[str, ...],
) -> list[str]:
    """The tensors of the file's trunk that the network does not have.

    Those of gates and exits stand in parts that no baseline has, and are left out. So is what a network computes.
    """
    parts = {_part(name) for name in wanted}
    return [
        name
        for name in given
        if name not in own
        and _part(name) in parts
        and _layer(name) not in classifiers
        and not name.endswith(COMPUTED)
    ]


def _part(name: str) -> str:
    """The part of the network that a tensor is of: "layer1" of layer1.0.conv1.weight, also within a timm model."""
    return name.removeprefix("model.").partition(".")[0].rstrip("0123456789")
