"""What an inspection measures, draws and hands on."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.inspection.forward_pass import QUICK
from search.inspection.measures import inspect_network, inspection_of
from search.inspection.page import inspection_html
from search.inspection.pngs import inspection_pngs
from tests.search.inspection.nets import CASES, found_of
from trainers.data.splits import ImageData


@pytest.mark.parametrize("case", CASES)
def test_only_what_applies_is_shown_and_every_picture_is_one(case: str, data: ImageData) -> None:
    found = found_of(case, data)
    names = {picture.name for picture, *_ in found.pictures()}
    assert names == CASES[case][2]
    drawn = inspection_pngs(found, "a network")
    assert set(drawn) == names
    for png in drawn.values():
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        assert picture.shape[1] > 1000
        assert picture.std() > 5, "something is drawn"
    page = inspection_html(found, "a <b>network</b>")
    assert set(re.findall(r'<section id="(\w+)"', page)) == names
    assert "a &lt;b&gt;network" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "it loads nothing"
    assert len(page) < 300_000


@pytest.mark.parametrize("case", CASES)
def test_measures_survive_json_and_stay_small(case: str, data: ImageData) -> None:
    make, knobs, _ = CASES[case]
    found = inspect_network(make(), data, knobs, effort=QUICK)
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert len(text) < 60_000
    assert inspection_of(json.loads(text)) == found


@pytest.mark.parametrize("other", [None, {}, {"error": "RuntimeError: no"}, {"images": "many"}])
def test_what_is_no_inspection_is_none(other: Any) -> None:
    assert inspection_of(other) is None
