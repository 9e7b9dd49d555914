"""The operating points of one training: what the same weights do under different run-time knobs.

A gate's decision changes what later gates see, so each gate threshold is a real pass over the validation split. An
exit's threshold changes nothing for the images that stay: all of them are read off the tables of one pass.

Passes over validation: of gates at most 25 (7 thresholds for all gates, 6 with one a gate, 3 sampled, 3 of an ensemble,
3 recalibrated and 3 more; an `Effort` may ask for other numbers of samples), of exits one a gate setting (at most 3),
of layers that can be left out at most 35 beside 5 in other orders and as many as there are layers and 4. A quick call
takes at most 4 in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from search.latency.predict import NetLatency
from search.latency.table import LatencyTable
from search.measure.effort import Effort
from search.measure.exit_points import ExitPoint, exit_points
from search.measure.gate_points import GOOD, front_rows, gate_threshold_points
from search.measure.measured_point import measured_point
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.noise import permutation
from spaces.contract.recipe import Recipe
from spaces.deploy.generic import needed_parameters
from storage.records import OperatingPoint
from trainers.data.splits import ImageData
from trainers.evaluate import Table, evaluate, recalibrated, refreshed_norms
from trainers.execution import Execution
from trainers.exit_logits import exit_logits
from trainers.metrics import ACCURACY, Metric

TAUS = (
    0.5,
    0.1,
    0.3,
    0.4,
    0.6,
    0.7,
    0.9,
)  # the first is the setting that samplers of one objective observe
QUICK_TAUS = (0.5, 0.3, 0.7)  # of a quick call; some of TAUS
PRUNE = 0.01
ORDERS = 3  # passes in arbitrary orders, one a batch, of a network trained for them
SUBSETS = 2  # halves of the layers drawn at random
LAYER_PASSES = 35  # in search of layers to leave out: all that there are to try for 8 layers


OPEN = Knobs(policy="always_on")


@dataclass(frozen=True)
class _Bench:
    """One trained network and all that measuring it takes."""

    net: DynamicNet
    data: ImageData
    recipe: Recipe
    execution: Execution
    seed: int
    metric: Metric
    clock: NetLatency | None = None
    effort: Effort = field(default_factory=Effort)

    def point(
        self, knobs: Knobs, rates: Any = None, net: DynamicNet | None = None
    ) -> OperatingPoint:
        """A setting measured on validation by a real pass."""
        split, data = self.data.validation, self.data
        table = evaluate(
            net or self.net,
            split,
            data,
            knobs,
            execution=self.execution,
            rates=rates,
            seed=self.seed,
        )
        return self.point_of(knobs, table, rates)

    def point_of(
        self, knobs: Knobs, table: Table, rates: Any = None, more: Mapping[str, Any] | None = None
    ) -> OperatingPoint:
        """A setting with these outcomes, and `more` to keep of it."""
        return measured_point(
            knobs,
            table,
            self.metric,
            parameters=needed_parameters(self.net, knobs, rates or table.rates),
            rates=rates,
            clock=self.clock,
            more=more,
        )


def operating_points(
    net: DynamicNet,
    data: ImageData,
    recipe: Recipe,
    *,
    execution: Execution,
    seed: int,
    quick: bool = False,
    metric: Metric = ACCURACY,
    latency: LatencyTable | None = None,
    effort: Effort | None = None,
) -> list[OperatingPoint]:
    """Every point measured on validation; the first is the one that represents the training.

    A point is accuracy by the `metric` with its 95 % interval, mean, p95 and max MACs, parameters, knobs and measured
    gate rates. A network in which nothing is dynamic has one. `quick`: a few of the same settings by at most four
    passes, to rank trainings under way. With a table of a machine's `latency`, points have that too.
    """
    clock = None if latency is None else NetLatency(net, latency)
    bench = _Bench(net, data, recipe, execution, seed, metric, clock, effort or Effort())
    points = _quick_points(bench) if quick else _all_points(bench)
    return [replace(points[0], chosen=True), *points[1:]]


def _all_points(bench: _Bench) -> list[OperatingPoint]:
    net = bench.net
    points = _gate_points(bench) if net.gates else [bench.point(OPEN)]
    if _thresholds_exits(net):
        settings = (
            [OPEN, Knobs(tau=TAUS[0]), Knobs(tau=_cheapest_good(points))] if net.gates else [OPEN]
        )
        points = _with_exits(bench, points, settings)
    if net.trained_to_move and net.movable_layers:
        points += _layer_points(bench, points[0].knobs)
    return points


def _thresholds_exits(net: DynamicNet) -> bool:
    """Whether images leave the network by thresholds that can be searched on tables, not by gates."""
    return net.exit_count > 0 and not any(gate.kind == "exit" for gate in net.gates)


def _quick_points(bench: _Bench) -> list[OperatingPoint]:
    """Some of a full call: three thresholds and all gates open, exits under either, three prefixes of layers."""
    net, exits = bench.net, _thresholds_exits(bench.net)
    taus = QUICK_TAUS[:1] if exits else QUICK_TAUS
    settings = [Knobs(tau=tau) for tau in taus if net.gates] + [OPEN]
    points = [bench.point(knobs) for knobs in settings]
    if exits:
        return _with_exits(bench, points, settings)
    layers = tuple(range(net.movable_layers))
    if net.trained_to_move and not net.gates:
        shares = dict.fromkeys((len(layers) // 2, 3 * len(layers) // 4, len(layers) - 1))
        points += [
            bench.point(replace(OPEN, keep=layers[:k])) for k in shares if 0 < k < len(layers)
        ]
    return points


def _gate_points(bench: _Bench) -> list[OperatingPoint]:
    points = [bench.point(Knobs(tau=tau)) for tau in TAUS]
    rates = points[0].extra["rates"]
    points.append(bench.point(OPEN))
    # behind which rates are of the images that stayed
    exits = any(gate.kind == "exit" for gate in bench.net.gates)
    passes = bench.effort.passes
    drawn = bench.point(Knobs(policy="stochastic", passes=passes))
    if not exits:
        scales = drawn.extra["rates"] if _same_for_all(rates) else rates
        points.append(bench.point(Knobs(policy="scaled_on"), scales))
    points += [drawn, bench.point(Knobs(policy="ensemble", passes=passes))]
    if not exits and any(r <= PRUNE or r >= 1 - PRUNE for units in rates.values() for r in units):
        points.append(bench.point(Knobs(prune=PRUNE), rates))
    points += gate_threshold_points(points, bench.net.gates, _cheapest_good(points), bench.point)
    # the statistics of a network that reads features are of all training images already
    if not bench.data.train.of_features and refreshed_norms(bench.net, bench.recipe):
        points += [
            _recalibrated(bench, knobs) for knobs in _recalibrated_knobs(points, bench.effort)
        ]
    return points


def _same_for_all(rates: Mapping[str, Sequence[float]]) -> bool:
    """Whether a threshold opens each unit for all images or none: then how often it is drawn says more of it."""
    return all(rate in (0, 1) for units in rates.values() for rate in units)


def _recalibrated(bench: _Bench, knobs: Knobs) -> OperatingPoint:
    fresh = recalibrated(
        bench.net,
        bench.data,
        knobs,
        bench.recipe,
        execution=bench.execution,
        seed=bench.seed,
    )
    return bench.point(knobs, net=fresh)


def _with_exits(
    bench: _Bench, points: list[OperatingPoint], settings: Sequence[Knobs]
) -> list[OperatingPoint]:
    """The points and those of exits under each of the gate settings, one of an exit in the middle first."""
    found = _exit_points(bench, settings)
    best = front_rows(found)
    # between the cheapest and the most expensive setting: what it was trained to do
    first = best[len(best) // 2]
    return [found[first], *points, *(p for i, p in enumerate(found) if i != first)]


def _exit_points(bench: _Bench, settings: Sequence[Knobs]) -> list[OperatingPoint]:
    """Exit thresholds, searched on one pass a gate setting."""
    found = []
    for i, knobs in enumerate(settings):
        if knobs in settings[:i]:
            continue
        raw = exit_logits(
            bench.net, bench.data.validation, bench.data, knobs, execution=bench.execution
        )
        for one in exit_points(raw, knobs, bench.effort.thresholds):
            answers = raw.answers(one.index)
            ran = None if raw.ran is None else replace(raw.ran, exit=one.index)
            table = Table(answers, one.macs[None], raw.rates, ran)
            shares = _shares(one, bench.net.exit_count)
            more = {
                "exits": shares,
                "paper_cost": bench.net.paper_cost([row["share"] for row in shares]),
                "selection_bias": one.selection_bias,
            }
            found.append(bench.point_of(one.knobs, table, more=more))
    return sorted(found, key=lambda p: p.macs_mean)


def _shares(point: ExitPoint, exits: int) -> list[dict[str, Any]]:
    """Share of images and accuracy at each early exit, at the deepest head and, where it answers, the ensemble."""
    rows = []
    names = [*(f"exit {k + 1}" for k in range(exits)), "deepest"]
    if point.knobs.fallback == "ensemble":
        names.append("ensemble")
    for k, name in enumerate(names):
        here = point.index == k
        accuracy = float(point.correct[here].double().mean()) if bool(here.any()) else 0.0
        rows.append({"name": name, "share": float(here.double().mean()), "accuracy": accuracy})
    return rows


def _layer_points(bench: _Bench, base: Mapping[str, Any]) -> list[OperatingPoint]:
    """Fewer layers, layers in arbitrary order, and both, of a network that was trained for it."""
    start, layers = Knobs(**base), tuple(range(bench.net.movable_layers))
    points = [bench.point(replace(start, order="arbitrary", passes=ORDERS))]
    kept: dict[tuple[int, ...], None] = {layers[:k]: None for k in range(1, len(layers))}
    kept |= {tuple(i for i in layers if i % 2 == odd): None for odd in (0, 1)}
    half = (len(layers) + 1) // 2  # and halves at random, to compare the chosen ones with
    drawn = (permutation(bench.seed, step, len(layers))[:half] for step in range(SUBSETS))
    kept |= {tuple(sorted(one)): None for one in drawn}
    points += [bench.point(replace(start, keep=keep)) for keep in kept]
    shares = {round(len(layers) * quarters / 4) for quarters in (2, 3)} - {1, len(layers)}
    # one pass each: batches have orders of their own
    points += [
        bench.point(replace(start, keep=layers[:k], order="arbitrary")) for k in sorted(shares)
    ]
    return points + _without_the_least(bench, start, layers)


def _without_the_least(
    bench: _Bench, start: Knobs, layers: tuple[int, ...]
) -> list[OperatingPoint]:
    """Leave out, again and again, the layer that is missed least on validation, by at most LAYER_PASSES passes.

    Where these do not suffice to try every layer every time, later rounds try those that were missed least before, as
    many as leave each round to come its share.
    """
    points, keep, left = [], layers, LAYER_PASSES
    missed = dict.fromkeys(layers, 0.0)
    while len(keep) > 1 and left > 0:
        rounds = len(keep) - 1
        needed = (len(keep) * (len(keep) + 1)) // 2 - 1
        count = len(keep) if keep == layers or needed <= left else max(1, left // rounds)
        tried = {}
        for gone in sorted(keep, key=missed.__getitem__)[: min(count, left)]:
            tried[gone] = bench.point(replace(start, keep=tuple(i for i in keep if i != gone)))
            missed[gone] = -tried[gone].accuracy
        left -= len(tried)
        gone = max(tried, key=lambda one: tried[one].accuracy)
        points.append(tried[gone])
        keep = tuple(tried[gone].knobs["keep"])
    return points


def _cheapest_good(points: list[OperatingPoint]) -> Any:
    """The threshold, or thresholds by gate, cheapest among those within five points of the best."""
    best = max(p.accuracy for p in points)
    thresholds = [p for p in points if list(p.knobs) == ["policy", "tau"]]
    good = [p for p in thresholds if p.accuracy >= best - GOOD] or thresholds
    return min(good, key=lambda p: p.macs_mean).knobs["tau"]


def _recalibrated_knobs(points: list[OperatingPoint], effort: Effort) -> list[Knobs]:
    """Batch norm saw sampled gates in training: refresh it for the first threshold and for the cheapest good one."""
    base = Knobs(
        recalibrate="same",
        recalibration_batches=effort.recalibration_batches,
        recalibration_images=effort.recalibration_images,
    )
    cheap = _cheapest_good(points)
    found = [replace(base, tau=tau) for tau in (TAUS[0], cheap)]
    return [*(found if cheap != TAUS[0] else found[:1]), replace(base, recalibrate="sample")]
