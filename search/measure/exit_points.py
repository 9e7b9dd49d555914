"""Operating points of a network's exits: thresholds searched on tables of one pass over validation.

Temperatures follow Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML, 2017. The judge
is a logistic regression that predicts whether an exit's answer is right; the confidences that its thresholds are
searched and reported with come from folds that it was not fitted on.

Shapes: N images, K early exits (row K is the deepest head), C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from search.measure.exit_grid import ExitTable, Floats, Ints, levels_within
from search.measure.exit_thresholds import (
    Setting,
    exhaustive_front,
    exit_outcomes,
    front_of,
    quantile_levels,
    setting,
    thin_out,
)
from spaces.contract.exit_rules import FALLBACKS, RULES, ExitRule, agreement, judged
from spaces.contract.knobs import Knobs
from trainers.exit_logits import ExitLogits

ENOUGH = 2000  # images on which a fine grid of thresholds is searched
POINTS = 10  # kept of a gate setting's front
FOLDS = 5
CALIBRATED = 5000  # images that a temperature is fitted on
FEWEST = 20  # right and wrong answers that a judge needs


@dataclass(frozen=True)
class ExitPoint:
    """One setting of the exits: knobs, and each image's outcome; `index` is the exit that answered it.

    `selection_bias`: by how much choosing thresholds on the images that also measure them flatters the accuracy, see
    `selection_biases`.
    """

    knobs: Knobs
    correct: Tensor
    macs: Tensor
    index: Tensor
    selection_bias: float


def exit_points(raw: ExitLogits, base: Knobs) -> list[ExitPoint]:
    """The front of exit settings over all rules and fallbacks, thinned, cheapest first; chosen on all images.

    `base` are the knobs that filled the tables.
    """
    temperatures = tuple(temperature(logits, raw.labels) for logits in raw.logits)
    judges, judged_confidence = judges_of(raw, temperatures)
    rules = [
        ExitRule(rule=rule, temperatures=temperatures, every=True)
        for rule in RULES
        if rule != "judge"
    ]
    confidence = {rule.rule: confidences(raw, rule) for rule in rules}
    tables = tables_of(raw, confidence | ({"judge": judged_confidence} if judges else {}))
    fine = len(raw.labels) >= ENOUGH
    kept = thin_out(search_thresholds(tables, fine=fine), POINTS)
    points = []
    for found, bias in zip(kept, selection_biases(tables, kept, fine=fine), strict=True):
        correct, macs, index = exit_outcomes(tables[found.rule], found.thresholds, found.fallback)
        knobs = replace(
            base,
            exit_rule=found.rule,
            exit_thresholds=found.thresholds,
            exit_temperatures=temperatures,
            exit_judges=judges if found.rule == "judge" else (),
            fallback=found.fallback,
        )
        points.append(
            ExitPoint(knobs, torch.tensor(correct), torch.tensor(macs), torch.tensor(index), bias)
        )
    return points


def search_thresholds(tables: Mapping[str, ExitTable], *, fine: bool) -> list[Setting]:
    """The front over the rules, fallbacks and thresholds of a grid; `tables` by rule.

    A fine grid has up to 2^18 vectors and a proven slack (see `levels_within`), a coarse one no more vectors than
    images, for a fine one flatters where images are few: with 4 exits and images drawn at random (12 draws) its
    accuracy was 2.2 points above that on fresh images for 300 images and a coarse one's 0.8, while on 5,000 (6 draws)
    neither was 0.1 points above and the fine one was better on fresh images too.
    """
    found = []
    for rule, table in tables.items():
        images = table.confidence.shape[1]
        quantiles = quantile_levels(table, max(3, int(max(FEWEST, images) ** (1 / table.exits))))
        for fallback in FALLBACKS:
            levels = levels_within(table, fallback=fallback)[0] if fine else quantiles
            found += [replace(one, rule=rule) for one in exhaustive_front(table, levels, fallback)]
    return front_of(found)


def selection_biases(
    tables: Mapping[str, ExitTable], kept: Sequence[Setting], *, fine: bool
) -> list[float]:
    """For each setting how much choosing at its cost flatters: chosen on one half of the images, measured on the other.

    On each half the front is searched as on all images. Of the setting there that costs about what the kept one does:
    accuracy on the half that it was chosen on minus accuracy on the other half, mean over the two halves, in which how
    easy either half is cancels. Positive is flattery. It is an estimate with the noise of two halves, and on the high
    side for a setting chosen on twice as many images. Temperatures and judges are those of all images. Nothing is
    subtracted from what a point reports.
    """
    images = next(iter(tables.values())).confidence.shape[1]
    order = np.random.default_rng(0).permutation(images)
    halves = order[: images // 2], order[images // 2 :]
    biases = np.zeros(len(kept))
    for own, other in (halves, halves[::-1]):
        front, unseen = search_thresholds(_some(tables, own), fine=fine), _some(tables, other)
        costs = np.array([one.macs for one in front])
        for i, one in enumerate(kept):
            chosen = front[int(np.abs(costs - one.macs).argmin())]
            there = setting(unseen[chosen.rule], chosen.thresholds, chosen.fallback)
            biases[i] += (chosen.accuracy - there.accuracy) / 2
    return [float(bias) for bias in biases]


def _some(tables: Mapping[str, ExitTable], images: Ints) -> dict[str, ExitTable]:
    return {rule: table.of(images) for rule, table in tables.items()}


def temperature(logits_NC: Tensor, labels_N: Tensor) -> float:
    """The number that logits are divided by to be best calibrated (least cross-entropy), in [0.05, 20]."""
    some_NC, labels_N = logits_NC[:CALIBRATED].float(), labels_N[:CALIBRATED]
    own = float(some_NC.gather(1, labels_N[:, None]).double().mean())

    def loss(log_t: float) -> float:
        t = float(np.exp(log_t))
        return float((some_NC / t).logsumexp(1).double().mean()) - own / t

    best = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(best.x)), 4)


def confidences(raw: ExitLogits, rule: ExitRule) -> Floats:
    """(K, N) each early exit's confidence under the rule."""
    logits = list(raw.logits)
    rows = [rule.confidence(k, logits[: k + 1]) for k in range(len(logits) - 1)]
    return torch.stack(rows).double().numpy()


def tables_of(raw: ExitLogits, confidence_KN: Mapping[str, Floats]) -> dict[str, ExitTable]:
    """The tables that thresholds are searched on, by rule."""
    right = (raw.logits.argmax(2) == raw.labels).numpy()
    ensemble = (raw.logits.mean(0).argmax(1) == raw.labels).numpy()
    return {
        rule: ExitTable(own, right, raw.macs.double().numpy(), ensemble)
        for rule, own in confidence_KN.items()
    }


def judges_of(
    raw: ExitLogits, temperatures: Sequence[float]
) -> tuple[tuple[tuple[float, ...], ...], Floats]:
    """(weights and bias of each early exit's judge, their cross-fitted confidences (K, N)); empty when data lack."""
    weights, rows = [], []
    for k in range(len(raw.logits) - 1):
        features = (
            judged(raw.logits[k] / temperatures[k], agreement(list(raw.logits[: k + 1])))
            .double()
            .numpy()
        )
        right = (raw.logits[k].argmax(1) == raw.labels).numpy()
        if min(right.sum(), (~right).sum()) < FEWEST:
            return (), np.empty((0, 0))
        crossed = np.empty(len(right))
        for fit, rest in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(
            features, right
        ):
            crossed[rest] = _fitted(features[fit], right[fit]).predict_proba(features[rest])[:, 1]
        rows.append(crossed)
        whole = _fitted(features, right)
        weights.append(tuple(round(float(w), 6) for w in (*whole.coef_[0], whole.intercept_[0])))
    return tuple(weights), np.stack(rows)


def _fitted(features: Floats, right: np.ndarray) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fold that does not converge is still a judge
        return LogisticRegression(max_iter=1000).fit(features, right)
