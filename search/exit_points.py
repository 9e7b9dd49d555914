"""Operating points of a network's exits: thresholds searched on tables of one pass over validation.

Temperatures follow Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML, 2017. The judge
is a logistic regression that predicts whether an exit's answer is right; the confidences that its thresholds are
searched and reported with come from folds that it was not fitted on.

Shapes: N images, K early exits (row K is the deepest head), C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from search.thresholds import ExitTable, Floats, exhaustive, front_of, leaving, quantile_levels, thinned
from spaces.exit_rules import FALLBACKS, RULES, ExitRule, agreement, judged
from spaces.net import Knobs
from trainers.evaluate import ExitLogits

VECTORS = 4096  # threshold vectors tried a rule and fallback
POINTS = 10  # kept of a gate setting's front
FOLDS = 5
CALIBRATED = 5000  # images that a temperature is fitted on
FEWEST = 20  # right and wrong answers that a judge needs


@dataclass(frozen=True)
class ExitPoint:
    """One setting of the exits: knobs, and each image's outcome; `index` is the exit that answered it."""

    knobs: Knobs
    correct: Tensor
    macs: Tensor
    index: Tensor


def exit_points(raw: ExitLogits, base: Knobs) -> list[ExitPoint]:
    """The front of exit settings over all rules and fallbacks, thinned; `base` are the knobs that filled the tables."""
    temperatures = tuple(temperature(logits, raw.labels) for logits in raw.logits)
    judges, judged_confidence = judges_of(raw, temperatures)
    candidates = []
    for rule in RULES:
        if rule == "judge" and not judges:
            continue
        one = ExitRule(rule=rule, temperatures=temperatures, every=True)
        own = judged_confidence if rule == "judge" else confidences(raw, one)
        table = table_of(raw, own)
        # no more vectors than images: the more are tried on few images, the more the best of them owes to luck
        vectors = min(VECTORS, max(FEWEST, len(raw.labels)))
        levels = quantile_levels(table, max(3, int(vectors ** (1 / table.exits))))
        for fallback in FALLBACKS:
            candidates += [(found, rule, table) for found in exhaustive(table, levels, fallback)]
    best = thinned(front_of([found for found, _, _ in candidates]), POINTS)
    points = []
    for found, rule, table in candidates:
        if any(found is kept for kept in best):
            correct, macs, index = leaving(table, found.thresholds, found.fallback)
            knobs = replace(
                base,
                exit_rule=rule,
                exit_thresholds=found.thresholds,
                exit_temperatures=temperatures,
                exit_judges=judges if rule == "judge" else (),
                fallback=found.fallback,
            )
            points.append(ExitPoint(knobs, torch.tensor(correct), torch.tensor(macs), torch.tensor(index)))
    return sorted(points, key=lambda p: float(p.macs.mean()))


def temperature(logits_NC: Tensor, labels_N: Tensor) -> float:
    """The number that logits are divided by to be best calibrated (least cross-entropy), in [0.05, 20]."""

    some, labels = logits_NC[:CALIBRATED].double(), labels_N[:CALIBRATED]

    def loss(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(some / np.exp(log_t), labels))

    return round(float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x)), 4)


def confidences(raw: ExitLogits, rule: ExitRule) -> Floats:
    """(K, N) each early exit's confidence under the rule."""
    logits = list(raw.logits)
    rows = [rule.confidence(k, logits[: k + 1]) for k in range(len(logits) - 1)]
    return torch.stack(rows).double().numpy()


def table_of(raw: ExitLogits, confidence_KN: Floats) -> ExitTable:
    """The table that thresholds are searched on."""
    right = raw.logits.argmax(2) == raw.labels
    ensemble = raw.logits.mean(0).argmax(1) == raw.labels
    return ExitTable(confidence_KN, right.numpy(), raw.macs.double().numpy(), ensemble.numpy())


def judges_of(raw: ExitLogits, temperatures: Sequence[float]) -> tuple[tuple[tuple[float, ...], ...], Floats]:
    """(weights and bias of each early exit's judge, their cross-fitted confidences (K, N)); empty when data lack."""
    weights, rows = [], []
    for k in range(len(raw.logits) - 1):
        features = judged(raw.logits[k] / temperatures[k], agreement(list(raw.logits[: k + 1]))).double().numpy()
        right = (raw.logits[k].argmax(1) == raw.labels).numpy()
        if min(right.sum(), (~right).sum()) < FEWEST:
            return (), np.empty((0, 0))
        crossed = np.empty(len(right))
        for fit, rest in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(features, right):
            crossed[rest] = _fitted(features[fit], right[fit]).predict_proba(features[rest])[:, 1]
        rows.append(crossed)
        whole = _fitted(features, right)
        weights.append(tuple(round(float(w), 6) for w in (*whole.coef_[0], whole.intercept_[0])))
    return tuple(weights), np.stack(rows)


def _fitted(features: Floats, right: np.ndarray) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fold that does not converge is still a judge
        return LogisticRegression(max_iter=1000).fit(features, right)
