"""What all views of a front must bear."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from search.front.pareto import front
from search.report.front_note import note
from tests.search.report.fronts import BASELINES, embedded, page, picture, point

ODD = {
    "nothing yet": [],
    "one point": [point(0.9, 1e6)],
    "two of one cost": [point(0.9, 1e6), point(0.8, 1e6)],
    "all equal": [point(0.9, 1e6)] * 3,
    "perfect": [point(1.0, 1e6, accuracy_high=1.0), point(0.99, 1e5)],
    "hopeless": [point(0.0, 1e6, accuracy_low=0.0), point(0.0, 1e7, accuracy_low=0.0)],
    "no cost": [point(0.5, 0.0), point(0.6, 1e6)],
    "tiny to huge": [point(0.5, 3.0), point(0.6, 1e12)],
    "not finite": [point(math.nan, 1e6), point(0.5, math.inf), point(0.6, 1e6)],
    "interval on the wrong side": [point(0.5, 1e6, accuracy_low=0.6, accuracy_high=0.4)],
}


@pytest.mark.parametrize("points", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("baselines", [(), BASELINES], ids=["alone", "with baselines"])
def test_every_odd_study_gets_its_page_picture_and_note(points, baselines):
    embedded(page(points, study="a $b_$", baselines=baselines))
    assert picture(points, study="a $b_$", baselines=baselines).startswith(b"\x89PNG")
    assert note(
        "s", points, front(points), run_id="r", links={}, baselines=baselines, hypervolume=0.5
    )


@pytest.mark.slow
def test_words_about_a_front_do_not_wait_for_matplotlib_and_pyplot_is_never_there():
    code = (
        "import sys, search.report.front_page\n"
        "from search.report import front_note, front_plot, front_text, gate_rates\n"
        "front_text.summary('s', []); front_note.note('s', [], [], run_id='r', links={})\n"
        "print('matplotlib' in sys.modules)\n"
        "front_plot.front_png('s', [], front=[], hypervolume=0.0)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
