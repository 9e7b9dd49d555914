"""Networks without memory for their weights: built for their shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)
INITIAL = "torch.nn.init"


@contextmanager
def shapes_only() -> Iterator[None]:
    """Tensors that are made meanwhile have shapes and no values, so no initial weights are drawn either.

    PyTorch would load its compiler for the first draw, which takes seconds.
    """
    with torch.device("meta"), _NoInitialWeights():
        yield


class _NoInitialWeights(TorchFunctionMode):
    """Leaves tensors as they are where initial weights would be put into them."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if function in DRAWS or getattr(function, "__module__", "") == INITIAL:
            return args[0] if args else named["tensor"]
        return function(*args, **named)
