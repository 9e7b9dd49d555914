"""A study file changed key by key: its values are the wanted ones, and what a person wrote beside them stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.service.study_text import changed, line_of
from storage.yaml_text import parsed

TEXT = """\
# my photos
study: s   # the name
data: digits
families:
  - gated_resnet
  - multi_exit  # exits
budget: {trials: 4, epochs: 1}
space:
  gated_resnet:
    backbone: [resnet8]  # small
    batch: 64

run:
  workers: 2
seed: 0
"""


def test_only_the_value_changes() -> None:
    assert changed(TEXT, {"seed": 7, "study": "t"}) == TEXT.replace("seed: 0", "seed: 7").replace(
        "study: s ", "study: t "
    )
    assert changed(TEXT, {"budget.trials": 9}) == TEXT.replace("trials: 4", "trials: 9")
    assert changed(TEXT, {"space.gated_resnet.batch": 32}) == TEXT.replace("64", "32")
    assert changed(TEXT, {"seed": 0, "budget.epochs": 1}) == TEXT


def test_a_list_in_a_block_becomes_one_line() -> None:
    after = changed(TEXT, {"families": ["skip_vit"]})
    assert "families: [skip_vit]  # exits\nbudget" in after


def test_new_keys_come_last_in_their_mapping() -> None:
    assert changed(TEXT, {"budget.hours": 1.5}) == TEXT.replace(
        "epochs: 1}", "epochs: 1, hours: 1.5}"
    )
    assert "    batch: 64\n    width: [0.5, 1.0]\n" in changed(
        TEXT, {"space.gated_resnet.width": [0.5, 1.0]}
    )
    assert changed(TEXT, {"region.max_macs": "20M"}).endswith("seed: 0\nregion: {max_macs: 20M}\n")
    assert changed("study: s", {"seed": 1}) == "study: s\nseed: 1\n"


def test_a_key_goes_with_its_line() -> None:
    assert changed(TEXT, {"seed": None}) == TEXT.replace("seed: 0\n", "")
    assert changed(TEXT, {"study": None}) == TEXT.replace("study: s   # the name\n", "")
    assert changed(TEXT, {"budget.trials": None}) == TEXT.replace("trials: 4, ", "")
    assert changed(TEXT, {"budget.epochs": None}) == TEXT.replace(", epochs: 1", "")
    assert "run: {}\n" in changed(TEXT, {"run.workers": None})
    assert changed(TEXT, {"limits.macs": None, "nosuch": None}) == TEXT


def test_a_text_that_a_flow_mapping_would_end_is_quoted() -> None:
    after = changed(TEXT, {"budget.trials": "a], b}"})
    assert "{trials: 'a], b}', epochs: 1}" in after


def test_what_an_anchor_shares_is_not_changed_by_halves() -> None:
    text = "space:\n  a: &x {batch: 64}\n  b: *x\n"
    with pytest.raises(ValueError, match=r"^space\.b\.batch: cannot be changed here"):
        changed(text, {"space.b.batch": 32})
    with pytest.raises(ValueError, match="must be a mapping"):
        changed("- a\n", {"seed": 1})


def test_the_line_of_a_key_is_found() -> None:
    assert line_of(TEXT, "space.gated_resnet.batch") == 11
    assert line_of(TEXT, "budget.hours") == 7, "the nearest above it"
    assert line_of(TEXT, "nosuch") is None
    assert line_of("a: [", "a") is None


WORDS = st.text("abcxyz: #'[]{},-1 0é\"", min_size=1, max_size=8)
SCALARS = WORDS | st.integers(-9, 9) | st.booleans() | st.floats(-9, 9).map(lambda x: round(x, 3))
VALUES = SCALARS | st.lists(SCALARS, max_size=3)


KEYS = """study data families budget.trials budget.hours space.gated_resnet space.gated_resnet.batch run.workers
run.threads region.within seed"""


@given(st.dictionaries(st.sampled_from(KEYS.split()), VALUES | st.none(), max_size=3))
def test_whatever_is_changed_is_read_back(changes: dict[str, Any]) -> None:
    after = TEXT
    for key, value in changes.items():
        after = changed(after, {key: value})
        found = parsed(after)
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        assert found == value
    assert "# my photos" in after
