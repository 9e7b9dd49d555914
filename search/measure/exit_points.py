"""Operating points of a network's exits: thresholds searched on tables of one pass over validation.

Temperatures follow Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML, 2017. The judge
is a logistic regression that predicts whether an exit's answer is right; the confidences that its thresholds are
searched and reported with come from folds that it was not fitted on.

Shapes: N images, K early exits (row K is the deepest head), E heads that have a judge, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from search.measure.exit_grid import ExitTable, Floats
from search.measure.exit_thresholds import exit_outcomes, thin_out
from search.measure.threshold_search import (
    GENETIC_RULE,
    Search,
    genetic_thresholds,
    search_thresholds,
    selection_biases,
)
from spaces.contract.exit_rules import RULES, ExitRule, agreement, judged
from spaces.contract.knobs import Knobs
from trainers.exit_logits import ExitLogits

ENOUGH = 2000  # images on which a fine grid of thresholds is searched
POINTS = 10  # kept of a gate setting's front
FOLDS = 5
CALIBRATED = 5000  # images that a temperature is fitted on
FEWEST = 20  # right and wrong answers that a judge needs


@dataclass(frozen=True)
class ExitPoint:
    """One setting of the exits: knobs, and each image's outcome.

    `index` is who answered it, see `exit_outcomes`.
    `selection_bias`: by how much choosing thresholds on the images that also measure them flatters the accuracy, see
    `selection_biases`.
    """

    knobs: Knobs
    correct: Tensor
    macs: Tensor
    index: Tensor
    selection_bias: float


def exit_points(raw: ExitLogits, base: Knobs, thresholds: str = "grid") -> list[ExitPoint]:
    """The front of exit settings, thinned, cheapest first; chosen on all images.

    `base` are the knobs that filled the tables. `thresholds` are searched on a grid, over all rules and fallbacks, or
    by the "genetic" search that SCAN published.
    """
    genetic = thresholds == "genetic"
    search = genetic_thresholds if genetic else _grid_search(raw)
    known = _uncalibrated(raw) if genetic else _calibrated(raw)
    kept = thin_out(search(known.tables), POINTS)
    points = []
    for found, bias in zip(kept, selection_biases(known.tables, kept, search), strict=True):
        table = known.tables[found.rule]
        correct, macs, index = exit_outcomes(table, found.thresholds, found.fallback)
        judges = known.judges[: len(found.thresholds)] if found.rule == "judge" else ()
        knobs = replace(
            base,
            exit_rule=found.rule,
            exit_thresholds=found.thresholds,
            exit_temperatures=known.temperatures,
            exit_judges=judges,
            fallback=found.fallback,
        )
        points.append(
            ExitPoint(knobs, torch.tensor(correct), torch.tensor(macs), torch.tensor(index), bias)
        )
    return points


@dataclass(frozen=True)
class _Known:
    """The tables that thresholds are searched on, by rule, and what their confidences were computed with."""

    tables: Mapping[str, ExitTable]
    temperatures: tuple[float, ...] = ()
    judges: tuple[tuple[float, ...], ...] = ()


def _grid_search(raw: ExitLogits) -> Search:
    return partial(search_thresholds, fine=len(raw.labels) >= ENOUGH)


def _calibrated(raw: ExitLogits) -> _Known:
    """Of all rules, on logits at the temperatures that fit them best."""
    temperatures = tuple(temperature(logits, raw.labels) for logits in raw.logits)
    judges, judged_confidence = judges_of(raw, temperatures)
    rules = [
        ExitRule(rule=rule, temperatures=temperatures, every=True)
        for rule in RULES
        if rule != "judge"
    ]
    confidence = {rule.rule: confidences(raw, rule) for rule in rules}
    tables = tables_of(raw, confidence | ({"judge": judged_confidence} if judges else {}))
    return _Known(tables, temperatures, judges)


def _uncalibrated(raw: ExitLogits) -> _Known:
    """Of the maximum probability as the network gives it."""
    rule = ExitRule(rule=GENETIC_RULE, every=True)
    return _Known(tables_of(raw, {rule.rule: confidences(raw, rule)}))


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
    """(K + 1, N) the confidence of each early exit and of the deepest head under the rule."""
    logits = list(raw.logits)
    rows = [rule.confidence(k, logits[: k + 1]) for k in range(len(logits))]
    return torch.stack(rows).double().numpy()


def tables_of(raw: ExitLogits, confidence_EN: Mapping[str, Floats]) -> dict[str, ExitTable]:
    """The tables that thresholds are searched on, by rule; without a row K the deepest head has no threshold."""
    right = (raw.logits.argmax(2) == raw.labels).numpy()
    macs = raw.macs.double().numpy()
    ensemble = (raw.logits.mean(0).argmax(1) == raw.labels).numpy()
    early = len(raw.logits) - 1
    return {
        rule: ExitTable(
            own[:early], right, macs, ensemble, own[early] if len(own) > early else None
        )
        for rule, own in confidence_EN.items()
    }


def judges_of(
    raw: ExitLogits, temperatures: Sequence[float]
) -> tuple[tuple[tuple[float, ...], ...], Floats]:
    """(weights and bias of each head's judge, their cross-fitted confidences (E, N)).

    Where the deepest head has too few right or wrong answers, E = K; where an early exit has, both are empty.
    """
    weights, rows = [], []
    for k in range(len(raw.logits)):
        features = (
            judged(raw.logits[k] / temperatures[k], agreement(list(raw.logits[: k + 1])))
            .double()
            .numpy()
        )
        right = (raw.logits[k].argmax(1) == raw.labels).numpy()
        if min(right.sum(), (~right).sum()) < FEWEST:
            if k == len(raw.logits) - 1:
                break
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
