"""Which exit answers which images."""

from __future__ import annotations

import pytest

from search.inspection import exits as picture
from search.inspection import images
from search.inspection.measures import inspect_network
from search.inspection.pngs import inspection_pngs
from spaces.contract.knobs import Knobs
from tests.search.inspection.nets import EFFORT, exits, found_of
from trainers.data.splits import ImageData


def test_exits_account_for_every_image_and_all_of_its_macs(data: ImageData) -> None:
    found = found_of("exits", data)
    use = found.part(picture.PICTURE)
    assert use is not None
    used = use.exits
    assert [one.name for one in used] == ["exit0", "exit1", "exit2", "deepest"]
    assert sum(one.share for one in used) == pytest.approx(1)
    assert sum(one.share * (one.accuracy or 0) for one in used) == pytest.approx(found.accuracy)
    assert sum(one.share * one.macs for one in used) == pytest.approx(found.macs_mean)
    assert [one.macs for one in used] == sorted(one.macs for one in used)
    for row in use.by_class:
        assert sum(row) == pytest.approx(1, abs=0.01)


def test_an_exit_that_answers_nobody_has_no_accuracy(data: ImageData) -> None:
    nobody = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(1.0, 1.0, 1.0))
    found = inspect_network(exits(), data, nobody, effort=EFFORT)
    use = found.part(picture.PICTURE)
    assert use is not None
    assert [one.accuracy is None for one in use.exits] == [True, True, True, False]
    assert found.part(images.PICTURE) is None, "every image costs the same"
    assert {picture.name for picture, *_ in found.pictures()} == {"mistakes", "exits", "attention"}
    assert set(inspection_pngs(found, "n")) == {"mistakes", "exits", "attention"}
