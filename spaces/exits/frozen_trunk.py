"""Networks whose trunk can keep its weights: what exits and the classifier read of it can be computed once, and kept.

The classifier and exits of kind `linear` are then linear probes: Alain and Bengio, "Understanding intermediate layers
using linear classifier probes", ICLR workshop, 2017. Differs: what they read is brought to mean 0 and deviation 1.

A row of features stands for an image: the forward pass takes rows (B, D) in place of images (B, C, H, W), and answers,
decides and pays as it does for the image. Each row holds what the heads read, one after another, and at last what the
classifier reads.

Shapes: B images, C channels, H x W pixels, D features of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spaces.contract.exit_places import Place
from spaces.contract.forward_pass import Walk
from spaces.contract.net import Output
from spaces.contract.policies import AlwaysOn, Policy
from spaces.contract.space import choice
from spaces.contract.trunk import FINETUNED, FROZEN, TRUNK
from spaces.exits.exit_config import POOLED_EXITS
from spaces.exits.exit_heads import LinearHead
from spaces.exits.exits import ExitNet

POOLED, MAPS = "pooled", "maps"
CLASSIFIER = "classifier"  # what is read behind the last place
VIEWS = (1, 2, 4, 8)
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """Whether the weights of the network before its heads are trained."""

    trunk: str = choice(
        FINETUNED, FROZEN, searched=False, later=True,
        doc="frozen: weights before the heads stay as they are loaded; heads train on features that are kept",
    )  # fmt: skip
    feature_views: int = choice(
        *VIEWS, default=2, when={TRUNK: (FROZEN,)}, searched=False, later=True,
        doc="of each training image: itself, mirrored where the data allows it, then shifted ones",
    )  # fmt: skip
    truncated: int | None = None  # a baseline that ends behind the place of this number

    @property
    def frozen(self) -> bool:
        return self.trunk == FROZEN


@dataclass(frozen=True)
class Read:
    """What a head reads: the trunk's output at a place, as maps (C, H, W) or pooled to (C, 1, 1)."""

    name: str  # "unit3", or CLASSIFIER
    kind: str
    place: Place

    @property
    def shape(self) -> tuple[int, int, int]:
        pixels = (self.place.height, self.place.width) if self.kind == MAPS else (1, 1)
        return self.place.channels, *pixels

    @property
    def width(self) -> int:
        """Numbers in a row."""
        channels, height, width = self.shape
        return channels * height * width


def pooled_read(place: Place) -> Read:
    """What a head reads that pools the maps at a place."""
    return Read(f"unit{place.unit}", POOLED, place)


class FrozenTrunkNet(ExitNet):
    """A network with exits whose trunk may be frozen; `freeze` is called at the end of its construction.

    `places` are all places where an exit may stand, `trunk` the modules whose weights a frozen one keeps.
    """

    frozen = False
    trunk_config: TrunkConfig
    exit_places: Sequence[Place]
    head_norm: nn.BatchNorm1d  # of a frozen one
    _standardised = False  # whether the statistics of norms are of all training images

    def trunk(self) -> list[nn.Module]:
        """The modules before the heads."""
        raise NotImplementedError

    def classifier(self) -> nn.Linear:
        """The last layer of the network's own head."""
        raise NotImplementedError

    def vector(self, u: Tensor) -> Tensor:
        """(B, D) what the classifier reads of the deepest output u."""
        return u.mean((2, 3))

    def place_module(self, place: Place) -> nn.Module:
        """The module whose output stands at a place."""
        raise NotImplementedError

    def as_maps(self, place: Place, u: Tensor) -> Tensor:
        """(B, C, H, W) of what stands at a place."""
        return u

    def trunk_identity(self) -> str:
        """What tells this trunk from another one with the same tensors."""
        raise NotImplementedError

    def trunk_names(self, read: Read) -> list[str]:
        """Names of the tensors that what is read depends on."""
        raise NotImplementedError

    def unit_macs(self) -> list[int]:
        """MACs of each unit, and at last of what lies between them and the own head."""
        raise NotImplementedError

    def freeze(self, vector_width: int) -> None:
        """Keep the trunk's weights, and let the classifier read `vector_width` features at mean 0, deviation 1."""
        self.frozen = True
        for module in self.trunk():
            module.requires_grad_(False)
        self.classifier().requires_grad_(True)
        self.head_norm = nn.BatchNorm1d(vector_width, affine=False)
        self.train(self.training)

    def constant_names(self) -> set[str]:
        """Those of a frozen trunk, but for counters of batches: these depend on what a process built before."""
        if not self.frozen:
            return set()
        return {n for n in self.trunk_names(self.last_read()) if not n.endswith(COUNTER)}

    def answer(self, vector: Tensor) -> Tensor:
        """Logits of what the classifier reads."""
        return self.classifier()(self.head_norm(vector))

    def train(self, mode: bool = True) -> FrozenTrunkNet:
        """As always; a frozen trunk stays in eval mode, and norms do whose statistics are known."""
        if not self.frozen:
            super().train(mode)
            return self
        self.training, trunk = mode, self.trunk()
        for child in self.children():
            if child not in trunk:
                child.train(mode)
            elif child.training:
                child.eval()
        for _, norm in self._norms() if self._standardised else ():
            norm.eval()
        return self

    @property
    def reads(self) -> tuple[Read, ...]:
        """What the heads read, in the order of a row; empty where features cannot be kept, for gates change them."""
        if not self.frozen or any(gate.kind != "exit" for gate in self.gates):
            return ()
        if self._remembered:
            passed = [place for place in self.exit_places if place.unit in self._remembered]
            return *map(pooled_read, passed), self.last_read()
        taken = {place.unit: place for place in self.exit_places}
        at = sorted(self._exit_at.items(), key=lambda one: one[1])
        exits = [Read(f"unit{unit}", self._kind(number), taken[unit]) for unit, number in at]
        return *exits, self.last_read()

    def last_read(self) -> Read:
        """What the classifier reads."""
        if (cut := self.trunk_config.truncated) is not None:
            return pooled_read(self.exit_places[cut])
        return Read(CLASSIFIER, POOLED, Place(-1, self.classifier().in_features))

    def all_reads(self) -> tuple[Read, ...]:
        """All that pooled heads of this trunk may read, which one pass over the images gives together."""
        places = [pooled_read(place) for place in self.exit_places]
        return tuple(dict.fromkeys([*places, self.last_read()]))

    def features(self, images: Tensor, reads: Sequence[Read]) -> list[Tensor]:
        """(B, D) of each read, of normalised images; the network is in eval mode."""
        seen: dict[str, Tensor] = {}
        with self._watching(seen, {read.place.unit for read in reads}):
            self(images)
        return [_row(seen[read.name], read) for read in reads]

    @contextmanager
    def _watching(self, seen: dict[str, Tensor], units: set[int]) -> Iterator[None]:
        """Put into `seen`, by name of a read, what modules hand on while the network runs."""
        handles = [
            self.place_module(place).register_forward_hook(self._keep(place, seen))
            for place in self.exit_places
            if place.unit in units
        ]
        handles.append(self.head_norm.register_forward_pre_hook(_keep_vector(seen)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keep(self, place: Place, seen: dict[str, Tensor]) -> Callable[..., None]:
        def keep(module: nn.Module, given: Any, made: Tensor) -> None:
            # a later module may work in place
            seen[f"unit{place.unit}"] = self.as_maps(place, made).clone()

        return keep

    def _kind(self, number: int) -> str:
        """Whether what is read at an exit can be pooled: neither its head nor its gate reads the maps themselves."""
        pooled = self.exit_config.exits in POOLED_EXITS
        gate = self.exit_config.exit_decision == "gate" and self.exit_config.exit_gate != "light"
        return POOLED if pooled and not gate else MAPS

    def answers(self, rows: Tensor, policy: Policy | None = None) -> Output:
        """The output of the forward pass for images whose features are these rows (B, D)."""
        walk = Walk(rows, policy or AlwaysOn(), compact=False, gates=self.gates)
        walk.given_maps = True
        *reads, last = self.reads
        parts = rows.split([read.width for read in (*reads, last)], 1)
        at = {read.place.unit: (read, part) for read, part in zip(reads, parts, strict=False)}
        for unit, macs in enumerate(self.unit_macs()):
            walk.pay(macs)
            if unit in at:
                read, part = at[unit]
                self.visit(unit, part.unflatten(1, read.shape), walk)
        vector = parts[-1]
        return self.finish_with(partial(self.answer, vector), lambda: vector, walk)

    def standardise(self, means: Mapping[str, Tensor], variances: Mapping[str, Tensor]) -> None:
        """Set the statistics of norms to those of all training images, by name of a read; they stay so."""
        for names, norm in self._norms():
            norm.running_mean.copy_(torch.cat([means[name] for name in names]))  # type: ignore[union-attr]
            norm.running_var.copy_(torch.cat([variances[name] for name in names]))  # type: ignore[union-attr]
        self._standardised = True
        self.train(self.training)

    def _norms(self) -> Iterator[tuple[list[str], nn.BatchNorm1d]]:
        """The norms of linear probes, by the names of what they read, in order."""
        for unit, number in self._exit_at.items():
            head = self.exit_heads[number]
            inner = getattr(head, "inner", head)
            if isinstance(inner, LinearHead):
                before = [one for one in sorted(self._remembered) if one <= unit]
                yield [f"unit{one}" for one in before or [unit]], inner.norm
        yield [self.last_read().name], self.head_norm


def _keep_vector(seen: dict[str, Tensor]) -> Callable[..., None]:
    def keep(module: nn.Module, given: tuple[Tensor]) -> None:
        seen[CLASSIFIER] = given[0]

    return keep


def _row(u: Tensor, read: Read) -> Tensor:
    if read.kind == POOLED and u.ndim == 4:
        u = u.mean((2, 3))
    return u.flatten(1)
