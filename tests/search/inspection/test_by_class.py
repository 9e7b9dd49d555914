"""Tables with a row a class."""

from __future__ import annotations

import torch

from search.inspection.by_class import CLASSES, class_rows


def test_rows_stand_in_their_order_and_classes_without_images_have_none() -> None:
    value_N = torch.tensor([0.5, 0.7, 0.1, 0.12349])
    table = class_rows(
        torch.tensor([0, 0, 2, 2]),
        ["cat", "dog", "hen"],
        row=lambda here_N: value_N[here_N],
        rank=lambda table_KV: table_KV.mean(1),
    )
    assert table.classes == ["hen", "cat"]
    assert table.rows == [[0.1, 0.123], [0.5, 0.7]]
    assert table.left_out == 0


def test_of_many_classes_both_ends_are_shown() -> None:
    count = CLASSES + 3
    label_N = torch.arange(count)
    table = class_rows(
        label_N,
        [str(i) for i in range(count)],
        row=lambda here_N: label_N[here_N].double(),
        rank=lambda table_KV: -table_KV[:, 0],
    )
    half = CLASSES // 2
    assert table.left_out == 3
    assert table.classes == [
        str(i) for i in (*range(count - 1, half + 2, -1), *range(half - 1, -1, -1))
    ]
