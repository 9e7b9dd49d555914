"""The picture of a front."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from search.front.pareto import front
from search.objectives import MACS_P95
from search.report.front_plot import _ticks, front_png
from tests.search.report.fronts import BASELINES, CLOUD, picture, point


def test_the_picture_is_a_png_of_its_size():
    image = Image.open(io.BytesIO(picture(CLOUD, baselines=BASELINES)))
    assert (image.format, image.size) == ("PNG", (1196, 702))


def pixels(png: bytes, colour: tuple[int, int, int]) -> int:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return sum(count for count, found in image.getcolors(1 << 24) or [] if found == colour)


def test_the_picture_shows_the_front_and_the_baselines_in_their_colours():
    blue, orange = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    alone, both = picture(CLOUD), picture(CLOUD, baselines=BASELINES)
    assert pixels(alone, blue) > 300
    assert pixels(alone, orange) == 0
    assert pixels(both, orange) > 300


def test_the_picture_follows_the_cost_that_the_study_minimises():
    bumpy = [
        point(0.7, 1e6, macs_p95=9e6),
        point(0.9, 2e6, macs_p95=3e6),
        point(0.95, 4e6, macs_p95=3e7),
    ]
    members = front(bumpy, (MACS_P95,))
    assert front_png("s", bumpy, front=members, hypervolume=0.5, cost=MACS_P95) != picture(bumpy)


@pytest.mark.slow
def test_threads_draw_the_same_picture_at_the_same_time():
    expected = picture(CLOUD)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: picture(CLOUD), range(8))) == {expected}


@given(st.floats(1, 1e12), st.floats(1.2, 1e9))
@example(1.0, 1e9)
def test_an_axis_has_between_two_and_nine_ticks_inside_it(low, ratio):
    ticks = _ticks(low, low * ratio)
    assert 2 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    assert low * 0.999 <= ticks[0]
    assert ticks[-1] <= low * ratio * 1.001
