"""A layer run for those samples alone whose gate is open: they are gathered, run, and put back among the others.

Mersha, "Dynamic Transformer Networks", Dynamic Neural Networks workshop at ICML, 2022, equations 8 to 12. Layer norms
look at one sample, so answers are those of running all and keeping what is open; so are gradients, unless a gate also
learns from what it closed (straight through). What it saves: benchmarks/open_rows.py.

Shapes: A samples still in, R of them open, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spaces.contract.forward_pass import Walk
from spaces.gates.gated_blocks import mixed


def run_where_open(layer: Callable[[Tensor], Tensor], u_AND: Tensor, z_A1: Tensor) -> Tensor:
    """u where z (A or 1, 1) is 0, else u moved by z towards what the layer makes of it.

    The layer runs where nobody is open too while it learns: its gradient is then zero, and not missing.
    """
    A = u_AND.shape[0]
    rows_R = (z_A1[:, 0] > 0).expand(A).nonzero()[:, 0]
    R = len(rows_R)
    if not R and not torch.is_grad_enabled():
        return u_AND
    if R == A:
        return mixed(u_AND, layer(u_AND), z_A1[:, :, None])
    open_RND = u_AND[rows_R]
    made_RND = mixed(open_RND, layer(open_RND), z_A1.expand(A, 1)[rows_R][:, :, None])
    return u_AND.to(made_RND.dtype).index_copy(0, rows_R, made_RND)


def pays_on(u_AND: Tensor, walk: Walk) -> bool:
    """Whether gathering saves time in masked execution: a GPU would wait for the number of rows, a graph needs one."""
    return (
        u_AND.device.type == "cpu"
        and not walk.policy.branches
        and not torch.compiler.is_compiling()
    )
