from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.data.stratified import divided, proportional

fewer = settings(max_examples=50)

counts = st.lists(st.integers(2, 40), min_size=2, max_size=8)


@st.composite
def divisions(draw: st.DrawFn) -> dict[str, object]:
    count_K = draw(counts)
    limit = st.one_of(st.none(), st.integers(len(count_K), 200))
    return {
        "labels_N": np.array(
            draw(st.permutations(np.repeat(np.arange(len(count_K)), count_K).tolist()))
        ),
        "classes": tuple(str(k) for k in range(len(count_K))),
        "validation": draw(st.floats(0.01, 0.99)),
        "limits": (draw(limit), draw(limit)),
        "seed": draw(st.integers(0, 2**32)),
        "source": "x",
    }


@fewer
@given(divisions())
def test_both_parts_have_every_class_within_their_limits_and_share_no_image(given_: dict) -> None:
    train, validation = divided(**given_)
    again = divided(**given_)
    labels_N, classes = given_["labels_N"], given_["classes"]
    assert not set(train) & set(validation)
    for rows, repeated, limit in zip((train, validation), again, given_["limits"], strict=True):
        assert np.array_equal(rows, repeated)
        assert set(labels_N[rows]) == set(range(len(classes)))
        assert limit is None or len(rows) <= limit
        assert np.array_equal(rows, np.unique(rows))


@fewer
@given(divisions())
def test_without_limits_no_image_is_lost(given_: dict) -> None:
    train, validation = divided(**{**given_, "limits": (None, None)})
    assert len(train) + len(validation) == len(given_["labels_N"])


@fewer
@given(divisions())
def test_a_limit_on_train_leaves_validation_as_it_is_and_takes_a_part_of_train(
    given_: dict,
) -> None:
    train, validation = divided(**given_)
    whole, same = divided(**{**given_, "limits": (None, given_["limits"][1])})
    assert np.array_equal(validation, same)
    assert set(train) <= set(whole)


@fewer
@given(counts, st.data())
def test_shares_add_up_and_stay_within_one_image_of_the_proportion_or_at_the_least_of_one(
    count: list[int], data: st.DataObject
) -> None:
    count_K = np.array(count)
    total = data.draw(st.integers(len(count), sum(count)))
    share_K = proportional(count_K, total, count_K)
    assert share_K.sum() == total
    assert (share_K >= 1).all()
    assert (share_K <= count_K).all()
    if (quota_K := count_K * total / count_K.sum()).min() >= 1:
        assert (np.abs(share_K - quota_K) < 1 + 1e-9).all()


def test_another_seed_holds_out_other_images() -> None:
    labels_N = np.repeat([0, 1], 50)
    held = [
        set(
            divided(
                labels_N, ("a", "b"), validation=0.2, limits=(None, None), seed=seed, source="x"
            )[1]
        )
        for seed in (0, 1)
    ]
    assert len(held[0]) == 20
    assert held[0] != held[1]
