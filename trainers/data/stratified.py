"""Training images divided into train and validation, every class in proportion.

Shapes: N images, K classes.
"""

from __future__ import annotations

import numpy as np


def divided(
    labels_N: np.ndarray,
    classes: tuple[str, ...],
    *,
    validation: float,
    limits: tuple[int | None, int | None],
    seed: int,
    source: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of train and of validation, ascending and disjoint, every class in both of them.

    `limits` are the most images of train and of validation. A limit on one part does not change the other.
    """
    count_K = np.bincount(labels_N, minlength=len(classes))
    _check_counts(count_K, classes, source)
    held_out = int(
        np.clip(round(validation * len(labels_N)), len(classes), len(labels_N) - len(classes))
    )
    held_out_K = proportional(count_K, held_out, count_K - 1)
    train_K = _limited(count_K - held_out_K, limits[0], "train_limit")
    validation_K = _limited(held_out_K, limits[1], "validation_limit")
    draws = np.random.default_rng(seed)
    train, val = [], []
    for label, held in enumerate(held_out_K):
        rows = draws.permutation(np.flatnonzero(labels_N == label))
        val.append(rows[: validation_K[label]])
        train.append(rows[held : held + train_K[label]])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))


def apart(
    labels_N: np.ndarray, classes: tuple[str, ...], test: float, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows left to train and validation, and rows of test, every class in both; the same whatever a study's seed."""
    count_K = np.bincount(labels_N, minlength=len(classes))
    _check_counts(count_K, classes, source)
    for name, count in zip(classes, count_K, strict=True):
        if count == 2:
            raise ValueError(
                f"{source}: class '{name}' has 2 images, but needs one each for train, validation and test: add "
                "another, put test images beside train, or remove the class"
            )
    least, most = len(classes), len(labels_N) - 2 * len(classes)
    taken_K = proportional(
        count_K, int(np.clip(round(test * len(labels_N)), least, most)), count_K - 2
    )
    draws = np.random.default_rng(0)
    taken = [
        draws.permutation(np.flatnonzero(labels_N == label))[:count]
        for label, count in enumerate(taken_K)
    ]
    rows = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(len(labels_N)), rows), rows


def proportional(count_K: np.ndarray, total: int, most_K: np.ndarray) -> np.ndarray:
    """`total` shared out in proportion to `count_K`, each class getting 1 to `most_K`."""
    quota_K = count_K * (total / count_K.sum())
    share_K = np.clip(np.floor(quota_K).astype(np.int64), 1, most_K)
    while (missing := total - int(share_K.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable_K = share_K < most_K if step > 0 else share_K > 1
        share_K[np.where(movable_K, step * (quota_K - share_K), -np.inf).argmax()] += step
    return share_K


def _limited(count_K: np.ndarray, limit: int | None, key: str) -> np.ndarray:
    if limit is None or limit >= count_K.sum():
        return count_K
    if limit < len(count_K):
        raise ValueError(
            f"{key}: {limit} is fewer than the {len(count_K)} classes: give that many or more"
        )
    return proportional(count_K, limit, count_K)


def _check_counts(count_K: np.ndarray, classes: tuple[str, ...], source: str) -> None:
    if len(classes) < 2:
        raise ValueError(
            f"{source}: only one class ({', '.join(classes)}): a classifier needs 2 or more"
        )
    for name, count in zip(classes, count_K, strict=True):
        if count == 0:
            raise ValueError(
                f"{source}: class '{name}' has no training images: add some, or remove it"
            )
        if count == 1:
            raise ValueError(
                f"{source}: class '{name}' has 1 training image, but needs one more for validation: "
                "add another, or remove the class"
            )
