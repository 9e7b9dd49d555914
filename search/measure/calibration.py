"""How likely answers are right, from confidences: a logistic regression for each network, fitted on validation.

Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods", Advances
in Large Margin Classifiers, 1999; here of logits of highest probabilities, of one network or of two. The counts that
Platt adds to either side keep the fit finite.

Shapes: J networks, N images, F features and a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STEPS = 8  # of Newton's method
RIDGE = 1e-2
NEAREST = 1e-6  # of a probability to 0 and 1


def likely_right(confidences: Sequence[Floats], right_JN: NDArray[np.bool_]) -> Floats:
    """(J, N) probabilities that answers are right, given confidences (J, N) in [0, 1].

    The mean over the images is about the accuracy.
    """
    each = [np.broadcast_to(_logit(one), right_JN.shape) for one in confidences]
    x_JNF = np.stack([*each, np.ones(right_JN.shape)], 2)
    count_J = right_JN.sum(1)
    wrong_J = right_JN.shape[1] - count_J
    high_J, low_J = (count_J + 1) / (count_J + 2), 1 / (wrong_J + 2)
    target_JN = np.where(right_JN, high_J[:, None], low_J[:, None])
    weights_JF = np.zeros((len(x_JNF), x_JNF.shape[2]))
    weights_JF[:, -1] = np.log((count_J + 1) / (wrong_J + 1))
    ridge_FF = RIDGE * np.eye(x_JNF.shape[2])
    for _ in range(STEPS):
        p_JN = _sigmoid(x_JNF, weights_JF)
        slope_JF = ((target_JN - p_JN)[:, None] @ x_JNF)[:, 0] - RIDGE * weights_JF
        curve_JFF = x_JNF.transpose(0, 2, 1) @ (x_JNF * (p_JN * (1 - p_JN))[:, :, None])
        weights_JF = (
            weights_JF + np.linalg.solve(curve_JFF + ridge_FF, slope_JF[:, :, None])[:, :, 0]
        )
    return _sigmoid(x_JNF, weights_JF)


def _logit(confidence: Floats) -> Floats:
    clipped = np.clip(confidence, NEAREST, 1 - NEAREST)
    found: Floats = np.log(clipped) - np.log1p(-clipped)
    return found


def _sigmoid(x_JNF: Floats, weights_JF: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-np.clip((x_JNF @ weights_JF[:, :, None])[:, :, 0], -50, 50)))
    return found
