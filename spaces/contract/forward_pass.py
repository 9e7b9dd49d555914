"""One forward pass through a dynamic network: who is still in, what was decided, what was paid.

Made anew for each call and never kept on a module, so that a network holds no run-time state. Masked execution computes
everything for all samples and multiplies by decisions; compact execution drops the samples that left.

Shapes: B samples of the batch, A samples still in (A = B in masked execution), U units of a gate, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spaces.contract.policies import Decision, Fixed, Gate, Policy
from spaces.contract.units import Guard, Unit

if TYPE_CHECKING:
    from spaces.contract.net import Output


class Walk:
    """The state of one forward pass. `memory` holds tensors (A, ...) of the units, which follow the samples."""

    def __init__(
        self, images: Tensor, policy: Policy, *, compact: bool, gates: tuple[Gate, ...] = ()
    ) -> None:
        self.policy, self.compact, self.gates = policy, compact, gates
        self.batch, self.device = (
            images.shape[0],
            images.device,
        )  # not len(): an exporter would take it for a constant
        # compact: batch positions of the samples still in; None: all
        self.rows: Tensor | None = None
        # masked: 1 for a sample still in (straight-through where a gate decided)
        self.stay_B: Tensor | None = None
        self.macs_B = torch.zeros(self.batch, dtype=torch.float64, device=images.device)
        self.decisions: list[Decision] = []
        self.memory: dict[str, Tensor] = {}
        self.extra: dict[
            str, list[Tensor]
        ] = {}  # what the family's objective and pictures read, of all samples
        self.exit_logits: list[Tensor] = []  # of the exits visited, for the samples still in
        self.exit_features: list[Tensor] = []
        self.exit_macs: list[Tensor] = []  # (B,) paid by an image that leaves at this exit
        # which exit answered: 0.. early, then the deepest, then the fallback
        self.index_B: Tensor | None = None
        self._answers: list[
            tuple[Tensor, Tensor]
        ] = []  # batch positions and logits of those who left
        self.exit_count: int | None = None  # of the network
        self.given_maps = False  # whether exits are given maps, whatever the network's own layout
        self._visited = 0  # exits
        self._masks: list[Tensor] = []  # masked: (B,) bool, who is answered by each early exit
        self._final: Tensor | None = None  # logits of an exit at which all end

    def pay(self, macs: int | float | Tensor) -> None:
        """Add MACs, a number or one a sample still in, (A,) or (1,), to those who are still in."""
        if self.rows is not None:
            if not isinstance(macs, Tensor):
                macs = torch.full((), float(macs), dtype=torch.float64, device=self.device)
            self.macs_B = self.macs_B.index_add(0, self.rows, macs.double().expand(len(self.rows)))
        elif self.stay_B is not None:
            self.macs_B = self.macs_B + self.stay_B.double() * macs
        else:
            self.macs_B = self.macs_B + macs

    def mark(
        self,
        kind: str,
        run: Callable[..., Any],
        *inputs: Tensor,
        macs: float = 0.0,
        guard: Guard | None = None,
        asks: tuple[str, ...] = (),
        leaving: bool = False,
        left: Callable[[Fixed], float] | None = None,
    ) -> None:
        """Say to who watches that the unit `run(*inputs)` runs here; see spaces.contract.units for the rest."""
        if self.policy.watch is None:
            return
        unit = Unit(
            kind=kind,
            run=run,
            inputs=tuple(one.detach() for one in inputs),
            macs=macs,
            exits=self._visited,
            guard=guard,
            asks=asks,
            leaving=leaving,
            left=left,
        )
        self.policy.watch.units.append(unit)

    def decide(self, gate: Gate, logit_AU: Tensor, among: Tensor | None = None) -> Decision:
        """The policy's decision; `among` are positions among those still in when not all of them ask."""
        return self.policy.decide(gate, logit_AU, self._positions(among))

    def _positions(self, among: Tensor | None) -> Tensor | None:
        if self.rows is None:
            return among
        return self.rows if among is None else self.rows[among]

    def record(self, found: Iterable[Decision]) -> None:
        """Keep decisions of those still in, as decisions of the whole batch: closed for who left."""
        for decision in found:
            if self.rows is not None:
                z_AU = decision.z_BU.expand(len(self.rows), -1)
                whole = z_AU.new_zeros(self.batch, decision.gate.units).index_copy(
                    0, self.rows, z_AU
                )
                decision = Decision(decision.gate, whole, None)
            elif self.stay_B is not None:
                z_BU = decision.z_BU * self.stay_B[:, None].to(decision.z_BU.dtype)
                decision = Decision(decision.gate, z_BU, decision.p_BU)
            self.decisions.append(decision)

    def note(self, name: str, tensor: Tensor) -> None:
        """Hand a tensor of all samples to the family's objective or pictures (in masked execution)."""
        if not self.compact:
            self.extra.setdefault(name, []).append(tensor)

    def leave(
        self,
        leaves_A: Tensor,
        logits: Tensor,
        feature: Tensor | None = None,
        stay_A: Tensor | None = None,
        *,
        only_leaving: bool = False,
    ) -> Tensor | None:
        """An exit was evaluated; `leaves_A` (bool) are answered by it. Returns who goes on (positions; None: all).

        `logits` (A, C) and `feature` (A, D) are the exit's; with `only_leaving` (compact execution) logits are of the
        leaving samples alone. `stay_A` is 0 or 1 with the gradient of the gate that decided, where one did.
        """
        index_B, number = self._answered(), self._visited
        self.skip_exit()
        self.exit_macs.append(self.macs_B)
        if not only_leaving:
            self.exit_logits.append(logits)
        if not self.compact:
            assert feature is not None
            self.exit_features.append(feature)
            before = self.stay_B
            here = leaves_A if before is None else leaves_A & (before.detach() > 0)
            self._masks.append(here)
            self.index_B = torch.where(here, number, index_B)
            if not self.policy.branches:  # which read what has been paid off who leaves where
                stay = (~leaves_A).to(torch.float32) if stay_A is None else stay_A
                self.stay_B = stay if before is None else before * stay
            return None
        rows = torch.arange(self.batch, device=self.device) if self.rows is None else self.rows
        gone, on = leaves_A.nonzero()[:, 0], (~leaves_A).nonzero()[:, 0]
        if not len(gone):
            return None
        self._answers.append((rows[gone], logits if only_leaving else logits[gone]))
        index_B[rows[gone]] = number
        self.rows = rows[on]
        self.memory = {name: tensor[on] for name, tensor in self.memory.items()}
        self.exit_logits = [one[on] for one in self.exit_logits]
        return on

    def end(self, logits: Tensor) -> None:
        """All that are still in are answered by this exit: what lies behind is not run (in masked execution)."""
        self._answered()
        self._final, self.exit_count = logits, self._visited

    def pass_by(self) -> None:
        """An exit was evaluated, and nobody left there."""
        self._answered()
        self.skip_exit()

    def skip_exit(self) -> None:
        """An exit was reached that need not be evaluated; it keeps its number."""
        self._visited += 1

    def _answered(self) -> Tensor:
        """(B,) which exit answered each image so far; -1 for none."""
        if self.index_B is None:
            self.index_B = torch.full((self.batch,), -1, dtype=torch.long, device=self.device)
        return self.index_B

    def _all_decisions(self) -> tuple[Decision, ...]:
        known = {decision.gate.name: decision for decision in self.decisions}
        nobody = [g for g in self.gates if g.name not in known]
        known |= {
            g.name: Decision(g, torch.zeros(1, g.units, device=self.device), None, False)
            for g in nobody
        }
        return tuple(known[gate.name] for gate in self.gates)

    @property
    def empty(self) -> bool:
        """Whether everybody has left: in compact execution, or at an exit where all end."""
        return self._final is not None or (self.rows is not None and not len(self.rows))

    def output(self, logits_AC: Tensor | None, fallback_A: Tensor | None = None) -> Output:
        """The answers of the whole batch; gates that nobody reached read closed.

        `logits_AC` are the deepest head's (None when everybody left before).

        `fallback_A` (bool) are answered by the mean of all heads' logits.
        """
        from spaces.contract.net import Exits, Output

        logits_AC = logits_AC if self._final is None else self._final
        deepest = self._visited if self.exit_count is None else self.exit_count
        decisions = self._all_decisions()
        ensemble = None
        if logits_AC is not None and fallback_A is not None:
            ensemble = torch.stack([*self.exit_logits, logits_AC]).mean(0)
        if self.index_B is None:
            assert logits_AC is not None
            return Output(logits_AC, decisions, self.macs_B, None, self.extra)
        last = logits_AC
        if ensemble is not None and fallback_A is not None and logits_AC is not None:
            last = torch.where(fallback_A[:, None], ensemble, logits_AC)
        number = torch.full((self.batch,), deepest, dtype=torch.long, device=self.device)
        if fallback_A is not None and logits_AC is not None:
            index_A = torch.where(fallback_A, deepest + 1, deepest)
            number = index_A if self.rows is None else number.index_copy(0, self.rows, index_A)
        index_B = torch.where(self.index_B < 0, number, self.index_B)
        if self.compact:
            answers = list(self._answers)
            if last is not None:
                rows = (
                    torch.arange(self.batch, device=self.device) if self.rows is None else self.rows
                )
                answers.append((rows, last))
            whole = torch.empty(
                self.batch, answers[0][1].shape[1], dtype=answers[0][1].dtype, device=self.device
            )
            for rows, logits in answers:
                whole[rows] = logits
            return Output(whole, decisions, self.macs_B, Exits((), (), (), index_B), self.extra)
        assert last is not None
        assert logits_AC is not None
        macs_B = self.macs_B
        # the first exit's choice is the outermost: what lies behind it is not needed where it answers everybody
        for mask, logits, paid in reversed(
            list(zip(self._masks, self.exit_logits, self.exit_macs, strict=True))
        ):
            last = torch.where(mask[:, None], logits, last)
            if self.policy.branches:
                macs_B = torch.where(mask, paid, macs_B)
        logits_all = (*self.exit_logits, logits_AC)
        return Output(
            last,
            decisions,
            macs_B,
            Exits(logits_all, tuple(self.exit_features), (*self.exit_macs, macs_B), index_B),
            self.extra,
        )
