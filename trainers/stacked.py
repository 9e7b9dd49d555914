"""Networks of one architecture whose weights lie in one stack, so that one forward pass runs them all.

Each network's parameters and buffers are views of its row: what changes the one changes the other. Wang, Yang, Zhao,
Zheng, Zhang, Venkataraman, Liu and Xu, "Horizontally Fused Training Array: An Effective Hardware Utilization Squeezer
for Training Novel Deep Learning Models", MLSys, 2021, write a fused form of each layer; here `torch.vmap` derives it.

Shapes: N networks, B images, T gate units of a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from spaces.contract.net import DynamicNet, Output
from spaces.contract.policies import AlwaysOn, Drawn, Policy, Sampled

OWN = (
    "seed",
    "ids_B",
    "temperature",
)  # of a policy that draws: what networks in a stack may differ in


class Stack:
    """So many networks in training mode, in this order."""

    def __init__(self, nets: Sequence[DynamicNet]) -> None:
        self.nets = list(nets)
        self._params, self._buffers = stack_module_state(self.nets)
        for index, net in enumerate(self.nets):
            for name, tensor in _tensors(net):
                stacked = self._params.get(name, self._buffers.get(name))
                assert stacked is not None
                tensor.data = stacked.detach()[index]
        own = [dict(net.named_parameters()) for net in self.nets]
        self._rows = {name: [of[name] for of in own] for name in self._params}

    def release(self) -> None:
        """Give each network tensors of its own again."""
        for net in self.nets:
            for _, tensor in _tensors(net):
                tensor.data = tensor.data.clone()

    def outputs(self, pixels: Sequence[Tensor], policies: Sequence[Policy]) -> list[Output] | None:
        """What each network makes of its images (B, C, H, W) under its policy; None where policies differ in kind."""
        if not _alike(policies):
            return None
        drawn_NBT, temperature, in_dims = None, None, [0, 0, 0, None, None]
        if isinstance(first := policies[0], Sampled):
            drawn_NBT = torch.stack([one.noise_BT for one in policies if isinstance(one, Sampled)])
            in_dims[3] = 0
            of_each = [one.temperature for one in policies if isinstance(one, Sampled)]
            if len(set(of_each)) > 1:
                temperature = torch.tensor(of_each, dtype=torch.float64, device=pixels[0].device)
                in_dims[4] = 0
        for stacked in self._params.values():
            stacked.grad = None
        shape: list[Output] = []

        def run(
            params: dict[str, Tensor],
            buffers: dict[str, Tensor],
            images: Tensor,
            drawn_BT: Tensor | None,
            temperature: Tensor | None,
        ) -> tuple[Tensor, ...]:
            policy = _drawn(first, drawn_BT, temperature)
            output = functional_call(self.nets[0], params | buffers, (images, policy))
            shape.append(output)
            return tuple(_parts(output))

        found = torch.vmap(run, in_dims=tuple(in_dims))(
            self._params, self._buffers, torch.stack(list(pixels)), drawn_NBT, temperature
        )
        rows = zip(*(tensor.unbind(0) for tensor in found), strict=True)
        return [_rebuilt(shape[0], iter(row)) for row in rows]

    def hand_gradients(self) -> None:
        """Let each network's parameters have their row of the stack's gradients."""
        for name, stacked in self._params.items():
            if stacked.grad is not None:
                for parameter, row in zip(self._rows[name], stacked.grad.unbind(0), strict=True):
                    parameter.grad = row


def _tensors(net: DynamicNet) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()


def _alike(policies: Sequence[Policy]) -> bool:
    """Whether the policies are of one kind, and differ in what is drawn and its temperature at most."""
    first = policies[0]
    if type(first) not in (AlwaysOn, Sampled):
        return False
    if any(type(one) is not type(first) or one.survival is not None for one in policies):
        return False
    names = [f.name for f in fields(first) if f.name not in (*OWN, "survival")]
    return all(getattr(one, name) == getattr(first, name) for one in policies for name in names)


def _drawn(policy: Policy, drawn_BT: Tensor | None, temperature: Tensor | None) -> Policy:
    """The policy of one network in the stack."""
    if not isinstance(policy, Sampled):
        return policy
    assert drawn_BT is not None
    values = {f.name: getattr(policy, f.name) for f in fields(policy)}
    if temperature is not None:
        values["temperature"] = temperature
    return Drawn(**values, drawn=drawn_BT)


def _parts(value: Any) -> Iterator[Tensor]:
    """The tensors in an output, in order."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for one in fields(value):
            yield from _parts(getattr(value, one.name))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _parts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _parts(one)


def _rebuilt(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same with these tensors in place of its own, in their order."""
    if isinstance(value, Tensor):
        return next(tensors)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _rebuilt(getattr(value, f.name), tensors) for f in fields(value)}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {key: _rebuilt(one, tensors) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_rebuilt(one, tensors) for one in value)
    return value
