"""Whether a library computes a network's steps rightly in a number format.

oneDNN 3.13's bfloat16 convolutions, as torch 2.15 uses them, are wrong for some shapes on CPUs with AMX. With a kernel
as large as its stride, 4 x 4 as in SCAN's heads, and 16 channels, results have nothing to do with float32's:

    conv = torch.nn.Conv2d(16, 16, 4, stride=4)
    images = torch.randn(64, 16, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wrong = conv(images)

A network that is trained with such results learns from them. Measured the same way it looks good, and what is exported,
in float32, is far worse.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from spaces.contract.net import DynamicNet, Plan
from trainers.execution import Execution

ROUNDING = 0.25  # norm of the error over that of the result; bfloat16 rounds to 0.004, what is wrong is above 1
_CHECKED = frozenset(
    {
        torch.ops.aten.convolution.default,
        torch.ops.aten.convolution_backward.default,
        torch.ops.aten.mm.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.bmm.default,
    }
)


def wrong_operations(net: DynamicNet, execution: Execution, images: Tensor) -> list[str]:
    """Operations of a training step on `images` (B, C, H, W) whose results are not float32's but for rounding.

    Empty where the format is float32. The network stays as it is.
    """
    if execution.dtype == "float32":
        return []
    one = execution.placed(copy.deepcopy(net))
    objective = one.objective(Plan(epochs=1, steps=1))
    ids = torch.arange(len(images), device=images.device)
    with _Compared() as found:
        with execution.autocast():
            output = one(execution.laid_out(images), objective.policy(0, ids))
        answers = [output.logits_BC, *(output.exits.logits if output.exits else ())]
        labels = ids % net.task.classes
        torch.stack([F.cross_entropy(one.float(), labels) for one in answers]).sum().backward()
    return sorted(found.wrong)


class _Compared(TorchDispatchMode):
    """Computes what is computed in 16 bits in float32 as well, and keeps where the two differ."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        given = [one for one in tree_leaves(args) if isinstance(one, Tensor)]
        if func in _CHECKED and any(one.dtype == torch.bfloat16 for one in given):
            right = func(*tree_map_only(Tensor, Tensor.float, args), **(kwargs or {}))
            if _error(found, right) > ROUNDING:
                shapes = ", ".join("x".join(map(str, one.shape)) for one in given)
                self.wrong.add(f"{func} of {shapes}")
        return found


def _error(found: Any, right: Any) -> float:
    """The largest error of a result's tensors; not-a-number counts as wrong."""
    pairs = zip(tree_leaves(found), tree_leaves(right), strict=True)
    errors = [_share(a.float() - b, b) for a, b in pairs if isinstance(a, Tensor)]
    return max(errors, default=0.0)


def _share(error: Tensor, right: Tensor) -> float:
    share = float(error.norm() / right.norm().clamp(min=1e-12))
    return share if share == share else float("inf")
