"""A vision transformer whose layers can be mixed, skipped, moved, left out and answered from early, in any combination.

The families dense_vit, skip_vit and shuffled_vit are this network with different things switched on. In one pass, the
order fixes which layer runs at a place; its input is mixed from earlier activations; its gate decides; it runs; an exit
belongs to the place. A skipped layer hands on the mixture that it got.

Shapes: B images, A of them still in, N tokens, D width, L layers, j earlier activations.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from spaces.backbones.timm_vits import NO_BACKBONE, sized
from spaces.backbones.vit import PLAIN, ViT, ViTConfig
from spaces.contract.exit_places import Place
from spaces.contract.family import Family
from spaces.contract.forward_pass import Walk
from spaces.contract.net import Objective, Output, Plan
from spaces.contract.policies import AlwaysOn, Decision, Gate, Policy
from spaces.contract.recipe import TransformerRecipe
from spaces.contract.space import choice
from spaces.contract.task import Task
from spaces.contract.units import Guard
from spaces.exits.exit_config import ExitConfig
from spaces.exits.exit_objective import ExitObjective
from spaces.exits.exits import ExitNet
from spaces.gates.gated_blocks import counted, decided, mixed
from spaces.gates.reinforce import check_reinforce
from spaces.transformers.layer_mixing import Mixing, MixingConfig, dropout_rates
from spaces.transformers.layer_order import (
    OrderConfig,
    OrderObjective,
    PlaceHead,
    Places,
    survival_rates,
)
from spaces.transformers.layer_skipping import (
    READS_HISTORY,
    SHARED,
    Oracle,
    SkippingConfig,
    SkippingObjective,
    remember,
)
from spaces.transformers.open_rows import pays_on, run_where_open


@dataclass(frozen=True, kw_only=True)
class RoutedViTConfig(ExitConfig, OrderConfig, SkippingConfig, MixingConfig, ViTConfig):
    """Everything that a routed transformer can have; `gated=False` is the plain one of the same size."""

    gated: bool = True
    exits: str = choice(
        "none",
        "cls",
        default="none",
        searched=False,
        doc="heads on the class token that answer early",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained and self.backbone == NO_BACKBONE:
            raise ValueError("pretrained: write in `backbone` which timm ViT or DeiT is meant")
        if (self.moves or self.layerdrop) and self.aggregator != "none":
            raise ValueError(
                f"aggregator: {self.aggregator} weighs layers by their place, so they cannot be shuffled or left out; "
                "take order_train identity and layerdrop 0, or aggregator none"
            )
        if (self.moves or self.layerdrop) and self.reads_history:
            raise ValueError(
                f"dt_history: {self.dt_history} depends on the order of layers, so they cannot be "
                "shuffled or left out; "
                "take dt_history none, or oracle cls"
            )

    @property
    def fixed_order(self) -> bool:
        """Whether something is learned by place, so that layers must run as built."""
        return self.aggregator != "none" or self.reads_history

    @property
    def reads_history(self) -> bool:
        """Whether oracles read what earlier ones said."""
        return self.oracle in READS_HISTORY and self.dt_history != "none"


class RoutedViT(ViT, ExitNet):
    """The network. Parameters of the plain ViT carry its names."""

    def __init__(self, config: RoutedViTConfig, task: Task) -> None:
        super().__init__(config, task)
        self.config = config
        on, count = config.gated, config.layers
        rates = dropout_rates(config.w_dropout_curve, config.w_dropout_max, count)
        mixes = on and config.aggregator != "none"
        self.mixings = nn.ModuleList(
            Mixing(config, config.dim, j + 1, rates[j]) for j in range(1, count if mixes else 1)
        )
        gated = _gated_layers(config) if on else []
        if gated:
            check_reinforce(config)
        asked = {self._oracle_name(i): i for i in gated}
        self.oracles = nn.ModuleDict(
            {name: Oracle(config, config.dim, i, count) for name, i in asked.items()}
        )
        names = [f"layer{i}" for i in gated]
        self.gates = tuple(
            Gate(
                name=name, kind="layer", block=i, units=1, offset=k, macs=self.layer_macs,
                inclusive=config.oracle in READS_HISTORY,
            )
            for k, (i, name) in enumerate(zip(gated, names, strict=True))
        )  # fmt: skip
        self._gate_of = {gate.block: gate for gate in self.gates}
        told = on and config.moves and config.ls_variant == "position"
        self.places = _places(config) if told else nn.ModuleList()
        predicts = on and config.moves and config.ls_variant == "predict"
        self.place_heads = nn.ModuleList(
            PlaceHead(config.dim, count) for _ in range(count if predicts else 0)
        )
        self.survival = (
            survival_rates(config.stochastic_depth, count)
            if on and config.stochastic_depth < 1
            else None
        )
        self.plain_macs, self.head_macs = self.total_macs(), self.answer_macs()
        self.standing_macs = sum(
            m.macs(self.tokens) for m in [*self.mixings, *self.places] if hasattr(m, "macs")
        )
        self.trained_to_move = on and (config.moves or config.layerdrop > 0)
        self.movable_layers = 0 if not on or config.fixed_order else count
        scales = bool(gated) and config.dt_grad == "soft_scale"
        self.settles_exactly = (
            not (gated and config.reads_history and config.dt_history == "soft") and not scales
        )
        self.opens_to_plain = not (mixes or told or self.survival or scales)
        self.add_exits(config, _exit_places(config), config.dim, on=on)

    def unneeded(self, policy: Policy) -> list[str]:
        unused = [
            *super().unneeded(policy),
            *(f"place_heads.{i}" for i in range(len(self.place_heads))),
        ]
        run = range(len(self.layers)) if policy.order is None else policy.order
        closed = {
            gate.block
            for gate in self.gates
            if gate.kind == "layer" and policy.settled(gate) == (0.0,)
        }
        unused += [f"layers.{i}" for i in range(len(self.layers)) if i not in run or i in closed]
        layers = [gate for gate in self.gates if gate.kind == "layer"]
        asked = {
            self._oracle_name(gate.block)
            for gate in layers
            if gate.block in run and policy.settled(gate) is None
        }
        return unused + [f"oracles.{name}" for name in self.oracles if name not in asked]

    def _oracle_name(self, layer: int) -> str:
        """Of the oracle that decides about this layer."""
        return SHARED if self.config.oracle == SHARED else f"{layer}"

    def behind_unit(self, unit: int) -> list[str]:
        if self.movable_layers:  # any layer may run before an exit
            return []
        return [f"layers.{i}" for i in range(unit + 1, len(self.layers))]

    def gate_parameters(self) -> list[nn.Parameter]:
        return [*self.oracles.parameters(), *self.exit_gate_parameters()]

    def objective(self, plan: Plan) -> Objective:
        config = self.config
        inner: Objective = (
            SkippingObjective(self, plan, config) if self.oracles else Objective(self, plan)
        )
        if config.gated and (config.moves or config.layerdrop or self.survival):
            inner = OrderObjective(self, plan, config, config.layers, inner)
        return ExitObjective(self, plan, config, inner) if self.exit_count else inner

    def forward(
        self, images: Tensor, policy: Policy | None = None, *, compact: bool = False
    ) -> Output:
        if compact and self.training:
            raise RuntimeError(
                "compact execution is for inference, it would change batch-norm statistics; call eval() first"
            )
        walk = Walk(images, policy or AlwaysOn(), compact=compact, gates=self.gates)
        walk.mark("stem", self.stem, images, macs=self.stem_macs())
        u = self.stem(images)
        walk.pay(self.stem_macs())
        order = (
            walk.policy.order if walk.policy.order is not None else tuple(range(len(self.layers)))
        )
        if self.mixings:
            walk.memory["activation0"] = u
        for place, index in enumerate(order):
            u = self._layer(index, place, u, walk)
            if self.mixings:
                walk.memory[f"activation{place + 1}"] = u
            u = self.visit(place, u, walk)
            if walk.empty:
                break
        return self.finish(u, walk)

    def _layer(self, index: int, place: int, u: Tensor, walk: Walk) -> Tensor:
        """What layer `index` puts out when it runs at `place`."""
        cls_AD = u[:, 0]
        if self.mixings and place:
            mixing = self.mixings[place - 1]
            assert isinstance(mixing, Mixing)
            earlier = [walk.memory[f"activation{k}"] for k in range(place + 1)]
            walk.mark("mixing", lambda *given: mixing(given)[0], *earlier)
            u, weights = mixing(earlier)
            walk.pay(mixing.macs(self.tokens))
            walk.note("mixing", weights)
        if self.places:
            told = self.places[index]
            assert isinstance(told, Places)
            walk.mark("place", partial(told, place=place), u)
            u = told(u, place)
            walk.pay(told.macs(self.tokens))
        decision = self._decided(index, cls_AD, u, walk)
        u = self._run(index, u, decision, walk)
        if self.place_heads and self.training:
            walk.note("places", self.place_heads[index](u))
        return u

    def _decided(self, index: int, cls_AD: Tensor, u: Tensor, walk: Walk) -> Decision | None:
        """The decision of the layer's gate, recorded and remembered; None where it has none."""
        gate = self._gate_of.get(index)
        if gate is None:
            if self.oracles:
                remember(walk, cls_AD.new_ones(1, 1), cls_AD.shape[0])
            return None
        settled = walk.policy.settled(gate)
        if settled is not None:
            decision = Decision.for_all(gate, settled, cls_AD.device)
            score = decision.z_BU
        else:
            oracle = self.oracles[self._oracle_name(index)]
            assert isinstance(oracle, Oracle)
            source = cls_AD.detach() if self.config.detach_cls else cls_AD
            history = walk.memory.get("history", cls_AD.new_ones(cls_AD.shape[0], 0))
            if oracle.own_macs:
                run = lambda u, seen: decided(oracle(u[:, 0], seen))  # noqa: E731
                walk.mark("gate", run, *(u, history), asks=(gate.name,))
            logit = oracle(source, history)
            walk.pay(oracle.own_macs)
            walk.note("oracle_logits", logit)
            decision = walk.decide(gate, logit)
            assert decision.p_BU is not None
            score = decision.z_BU.detach() if self.config.dt_history == "hard" else decision.p_BU
        remember(walk, score, cls_AD.shape[0])
        walk.record([decision])
        return decision

    def _run(self, index: int, u: Tensor, decision: Decision | None, walk: Walk) -> Tensor:
        """The layer run on u for those whose gate is open, u itself for the others."""
        layer, macs = self.layers[index], self.layer_macs
        z = None if decision is None else self._scale(decision)
        if self.survival is not None:
            kept = walk.policy.survival
            factor = (
                kept[:, index : index + 1]
                if kept is not None
                else torch.full((1, 1), self.survival[index])
            )
            factor = factor.to(u)
            z = factor if z is None else z * factor
        self._mark_layer(index, u, decision, walk)
        if z is None:
            walk.pay(macs)
            return layer(u)
        walk.pay(macs * counted(decision))
        z = z.to(u.dtype)
        learns_if_closed = self.config.dt_grad == "st" and z.requires_grad
        if walk.compact or (not learns_if_closed and pays_on(u, walk)):
            return run_where_open(layer, u, z)
        if not walk.policy.branches:
            return mixed(u, layer(u), z[:, :, None])
        if decision is not None and walk.policy.settled(decision.gate) == (0.0,):
            return u
        return torch.where(z[:, :, None] > 0, mixed(u, layer(u), z[:, :, None]), u)

    def _mark_layer(self, index: int, u: Tensor, decision: Decision | None, walk: Walk) -> None:
        """Show the layer as a unit: as it runs while its gate decides, and once it is open for good."""
        layer, macs = self.layers[index], self.layer_macs
        if decision is None or walk.policy.watch is None:
            walk.mark("layer", layer, u, macs=macs)
            return

        def chosen(u: Tensor, z: Tensor) -> Tensor:
            return torch.where(z > 0, mixed(u, layer(u), z), u)

        undecided, open_for_good = (
            Guard(decision.gate.name, open=True, settled=one) for one in (False, True)
        )
        z_A11 = decision.z_BU[:, :, None].to(u.dtype)
        walk.mark("layer", chosen, u, z_A11, macs=macs, guard=undecided)
        walk.mark("layer", layer, u, macs=macs, guard=open_for_good)

    def _scale(self, decision: Decision) -> Tensor:
        """(A or 1, 1) what the layer's update is multiplied with."""
        if self.config.dt_grad == "soft_scale" and decision.p_BU is not None:
            return decision.z_BU.detach() * decision.p_BU
        return decision.z_BU.detach() if self.config.dt_grad == "literal" else decision.z_BU


def _places(config: RoutedViTConfig) -> nn.ModuleList:
    """For each layer what tells it its place; tables of places start at zero."""
    table = nn.Embedding(config.layers, config.pos_dim)
    nn.init.zeros_(table.weight)
    tables = [table if config.pos_shared else copy.deepcopy(table) for _ in range(config.layers)]
    return nn.ModuleList(
        Places(config.dim, config.pos_dim, one, config.pos_dropout) for one in tables
    )


def _gated_layers(config: RoutedViTConfig) -> list[int]:
    if config.oracle == "none":
        return []
    always = {"none": set(), "first": {0}, "first_last": {0, config.layers - 1}}[config.dt_always]
    return [i for i in range(config.layers) if i not in always]


def _exit_places(config: RoutedViTConfig) -> list[Place]:
    """Up to three places, evenly spread over the depth."""
    count = min(3, config.layers - 1)
    units = [round(config.layers * (k + 1) / (count + 1)) - 1 for k in range(count)]
    return [Place(unit, config.dim) for unit in dict.fromkeys(units)]


routed_family = partial(
    Family,
    recipe=TransformerRecipe,
    build=RoutedViT,
    size_dimensions=("layers", "dim"),
    smaller_sizes={"layers": (2, 3, 4)},
    baseline_dimensions=PLAIN,
    size_words={"layers": "{} layers", "dim": "dim {}"},
    sized_by="backbone",
    sized=sized,
)
