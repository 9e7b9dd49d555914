"""Paths as people write them in a study file."""

from __future__ import annotations

import os
from pathlib import Path

TORCHVISION = "torchvision:"  # before the name of a model whose weights torchvision has
TIMM = "timm:"  # and timm
LIBRARIES = (TORCHVISION, TIMM)


def expanded(text: str) -> Path:
    """The path, with `~` and `$NAME` put in; what this machine does not know stays as it is written."""
    return Path(os.path.expanduser(os.path.expandvars(text)))


def weights_file(source: str) -> Path:
    """The file of weights that `init_from` names. Raises ValueError when there is none that can be read."""
    path = expanded(source)
    if not path.is_file():
        raise ValueError(f"init_from: {source} is not a file")
    if not os.access(path, os.R_OK):
        raise ValueError(f"init_from: {source} is not a file that this user may read")
    return path
