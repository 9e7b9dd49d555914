"""What a person sees of a front: page, picture, table, note; and gate rates."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from search.front import Point, front
from search.plots import (
    _ticks,
    beats_static,
    front_html,
    front_png,
    front_table,
    gate_rates_png,
    note,
    summary,
)
from tests.search.points import point as point_of

point = partial(point_of, params={"backbone": "resnet20", "gates": {"target": 0.5}})


def plain(accuracy: float, macs: float) -> Point:
    return point(accuracy, macs, 1000, kind="static", knobs={}, family="resnet")


def rising(count: int) -> list[Point]:
    """Points that are all on the front, of three a trial."""
    return [
        point(0.5 + 0.45 * i / count, 1e5 * 1.01**i, i // 3, run_id=f"{i:032x}", knobs={"tau": i / count})
        for i in range(count)
    ]


def page(points: list[Point], *, study: str = "digits", static: tuple[Point, ...] = (), **more: Any) -> str:
    return front_html(
        study, points, front=front(p for p in points if p.kind == "search"), static=static, hypervolume=0.5, **more
    )


def picture(points: list[Point], *, study: str = "digits", static: tuple[Point, ...] = (), **more: Any) -> bytes:
    return front_png(study, points, front=front(points), static=static, hypervolume=0.5, **more)


def embedded(html: str) -> dict:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert match is not None

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON for a browser")

    return json.loads(match[1], parse_constant=refuse)


CLOUD = [point(0.7, 1e6, 1), point(0.9, 2e6, 1), point(0.95, 4e6, 2), point(0.6, 3e6, 2), point(0.8, 3e6, 3)]
LADDER = (plain(0.8, 2e6), plain(0.96, 5e6))


def test_the_summary_counts_the_points_that_the_plain_nets_do_not_match():
    standing = front(CLOUD)
    assert summary("digits", standing, LADDER) == "digits: 3 points on the front, 2 beat every plain net of equal cost"
    assert summary("digits", standing) == "digits: 3 points on the front, up to 95.0 % at 4.00 M MACs"
    assert (
        summary("digits", standing[:1], LADDER)
        == "digits: 1 point on the front, none beats the plain nets of equal cost"
    )
    assert summary("digits", []) == "digits: no operating point yet"


def test_the_summary_speaks_of_the_cost_that_the_study_minimises():
    assert summary("digits", front(CLOUD), cost="macs_p95").endswith("95.0 % at 8.00 M MACs")


def test_a_point_beats_the_plain_nets_only_if_it_is_better_than_all_that_cost_no_more():
    assert beats_static(point(0.81, 2e6), LADDER)
    assert not beats_static(point(0.80, 2e6), LADDER)
    assert not beats_static(point(0.95, 6e6), LADDER)
    # cheaper than every plain net: it must reach one of them
    assert beats_static(point(0.80, 1e6), LADDER)
    assert not beats_static(point(0.79, 1e6), LADDER)


def test_a_point_is_compared_at_the_cost_that_is_asked_for():
    spiky = point(0.81, 1.9e6, macs_p95=2e7)
    assert beats_static(spiky, LADDER)
    assert not beats_static(spiky, LADDER, "macs_p95")


def test_the_page_needs_nothing_but_itself():
    html = page(CLOUD, static=LADDER)
    # the name of SVG is an identifier, which no browser fetches
    assert re.findall(r"https?:[^\"' ]+", html) == ["http://www.w3.org/2000/svg"]
    forbidden = [
        "localStorage",
        "sessionStorage",
        "window.open",
        "fetch(",
        "import(",
        "<link",
        " src=",
        "@import",
        "url(h",
    ]
    assert [word for word in forbidden if word in html] == []


def test_each_point_stands_in_the_page_once_and_in_its_role():
    data = embedded(page([*CLOUD, *LADDER], static=LADDER))
    rows = [(row[1], row[2], row[5], row[-1]) for row in data["points"]]
    assert sorted(rows) == sorted(
        [(str(p.trial), p.accuracy, p.macs_mean, "front" if p in front(CLOUD) else "cloud") for p in CLOUD]
        + [("plain 1000", p.accuracy, p.macs_mean, "plain") for p in LADDER]
    )
    assert data["configs"][0] == {"family": "gated_resnet", "params": {"backbone": "resnet20", "gates.target": 0.5}}
    assert data["knobs"][0] == {"tau": 0.5}


def test_the_page_says_which_cost_it_shows():
    assert embedded(page(CLOUD))["axis"] == "MACs per image (mean)"
    shown = embedded(page(CLOUD, cost="macs_p95"))
    assert (shown["cost"], shown["axis"]) == ("macs_p95", "MACs per image (95th percentile)")


def test_no_name_can_break_out_of_the_page():
    evil = '</script><img src=x onerror="alert(1)">'
    html = page([point(0.9, 1e6, params={"note": evil}, family=evil)], study=evil)
    assert "<img" not in html
    assert html.count("</script>") == 2
    assert embedded(html)["configs"][0] == {"family": evil, "params": {"note": evil}}


def test_a_study_may_be_named_like_a_placeholder():
    assert "<h1>@data@: 3 points" in page(CLOUD, study="@data@")


def test_a_number_that_json_does_not_know_is_shown_as_text():
    assert embedded(page([point(0.9, 1e6, knobs={"tau": math.nan, "limit": math.inf})]))["knobs"] == [
        {"tau": "nan", "limit": "inf"}
    ]


def test_a_large_study_gives_a_small_page_with_its_whole_front():
    points = [*rising(300), *(point(0.4, 1e5 + i, i // 30) for i in range(30_000))]
    start = perf_counter()
    html = page(points)
    assert perf_counter() - start < 5  # measured 0.15 s; the margin is for a busy machine
    assert len(html.encode()) < 1_500_000
    roles = [row[-1] for row in embedded(html)["points"]]
    assert (roles.count("front"), roles.count("cloud")) == (300, 3_000)
    assert "3,000 of the 30,000 points off the front are drawn" in html


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to read JavaScript")
def test_the_script_of_the_page_can_be_read(tmp_path):
    script = tmp_path / "page.js"
    script.write_text(page(CLOUD).split("<script>")[1].split("</script>")[0])
    checked = subprocess.run(["node", "--check", script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_the_picture_is_a_png_of_its_size():
    image = Image.open(io.BytesIO(picture(CLOUD, static=LADDER)))
    assert (image.format, image.size) == ("PNG", (1196, 702))


def pixels(png: bytes, colour: tuple[int, int, int]) -> int:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return sum(count for count, found in image.getcolors(1 << 24) or [] if found == colour)


def test_the_picture_shows_the_front_and_the_plain_nets_in_their_colours():
    blue, orange = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    alone, both = picture(CLOUD), picture(CLOUD, static=LADDER)
    assert pixels(alone, blue) > 300
    assert pixels(alone, orange) == 0
    assert pixels(both, orange) > 300


def test_the_picture_follows_the_cost_that_the_study_minimises():
    bumpy = [point(0.7, 1e6, macs_p95=9e6), point(0.9, 2e6, macs_p95=3e6), point(0.95, 4e6, macs_p95=3e7)]
    standing = front(bumpy, "macs_p95")
    assert front_png("s", bumpy, front=standing, hypervolume=0.5, cost="macs_p95") != picture(bumpy)


@pytest.mark.slow
def test_threads_draw_the_same_picture_at_the_same_time():
    expected = picture(CLOUD)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: picture(CLOUD), range(8))) == {expected}


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
@pytest.mark.parametrize("static", [(), LADDER], ids=["alone", "with plain nets"])
def test_every_odd_study_gets_its_page_picture_and_note(points, static):
    embedded(page(points, study="a $b_$", static=static))
    assert picture(points, study="a $b_$", static=static).startswith(b"\x89PNG")
    assert note("s", points, front(points), run_id="r", links={}, static=static, hypervolume=0.5)


@given(st.floats(1, 1e12), st.floats(1.2, 1e9))
@example(1.0, 1e9)
def test_an_axis_has_between_two_and_nine_ticks_inside_it(low, ratio):
    ticks = _ticks(low, low * ratio)
    assert 2 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    assert low * 0.999 <= ticks[0]
    assert ticks[-1] <= low * ratio * 1.001


@pytest.mark.slow
def test_words_about_a_front_do_not_wait_for_matplotlib_and_pyplot_is_never_there():
    code = (
        "import sys, search.plots as plots\n"
        "plots.summary('s', []); plots.note('s', [], [], run_id='r', links={})\n"
        "print('matplotlib' in sys.modules)\n"
        "plots.front_png('s', [], front=[], hypervolume=0.0)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("gates", [1, 12, 13, 120])
@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_gate_rates_are_drawn_for_few_and_many_gates_and_epochs(gates, epochs):
    rates = {f"stage_{i}.$gate_$": [i / gates] * epochs for i in range(gates)}
    png = gate_rates_png("trial 7", list(range(epochs)), rates)
    assert Image.open(io.BytesIO(png)).size == (1196, 702)


def test_gate_rates_change_the_picture():
    def drawn(rate: float, gates: int) -> bytes:
        return gate_rates_png("t", [0, 1], {f"g{i}": [1.0, rate] for i in range(gates)})

    assert drawn(0.2, 3) != drawn(0.8, 3)
    assert drawn(0.2, 20) != drawn(0.8, 20)


@pytest.mark.parametrize(
    ("epochs", "rates", "message"),
    [
        ([0], {}, "no gate rates to draw"),
        ([], {"g": []}, "no gate rates to draw"),
        ([0, 1], {"g0": [0.5, 0.5], "g1": [0.5]}, r"^gate g1 has 1 rates for 2 epochs; give one each$"),
    ],
)
def test_gate_rates_that_cannot_be_drawn_are_refused(epochs, rates, message):
    with pytest.raises(ValueError, match=message):
        gate_rates_png("t", epochs, rates)


def test_the_table_has_a_value_for_each_column_and_the_cheapest_first():
    table = front_table([point(0.95, 4e6, 2), point(0.9, 2e6, 1, run_id="abc")])
    assert [len(row) for row in table["data"]] == [len(table["columns"])] * 2
    first = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (first["trial"], first["macs_p95"], first["run_id"]) == (1, 4e6, "abc")
    assert (first["knobs"], first["params"]) == ("tau=0.5", "backbone=resnet20 gates.target=0.5")
    assert json.loads(json.dumps(table)) == table


LINKS = {("search", trial): f"#/experiments/1/runs/{trial:032x}" for trial in range(1000)}


def table_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def test_the_note_begins_with_the_summary_then_the_picture_then_the_table():
    standing = front(CLOUD)
    lines = note("digits", CLOUD, standing, run_id="r1", links=LINKS, static=LADDER).splitlines()
    assert lines[0] == "**digits: 3 points on the front, 2 beat every plain net of equal cost**"
    assert lines[2] == "![front](/get-artifact?path=pareto%2Ffront.png&run_uuid=r1)"
    assert lines[4].startswith("| trial | family | accuracy |")
    assert re.fullmatch(r"\|( --- \|){8}", lines[5])
    costs = "1.00 M | 2.00 M | 1.00 k"
    assert lines[6] == f"| [1]({LINKS['search', 1]}) | gated_resnet | 70.00 % | 69.0 % to 71.0 % | {costs} | tau=0.5 |"
    assert len(lines) == 9


def test_plain_nets_on_the_front_are_called_that() -> None:
    winner = plain(0.95, 1e4)
    standing = front([*CLOUD, winner])
    none = "none beats the plain nets of equal cost"
    assert summary("s", standing, [winner]) == f"s: 1 point on the front (1 of plain nets), {none}"
    links = {("static", 1000): "#plain", ("search", 1000): "#trial"}
    (row,) = table_rows(note("s", CLOUD, standing, run_id="r", links=links))
    assert row.startswith("| [plain 1000](#plain) | resnet |")
    roles = {(name, role) for _, name, *_, role in embedded(page([*CLOUD, winner], static=(winner,)))["points"]}
    assert ("plain 1000", "plain") in roles


def test_a_trial_without_a_run_stands_in_the_note_without_a_link():
    assert table_rows(note("s", CLOUD, front(CLOUD), run_id="r", links={}))[0].startswith("| 1 | gated")


def test_a_long_note_keeps_both_ends_and_says_what_it_left_out():
    points = rising(1000)
    start = perf_counter()
    text = note("digits", points, points, run_id="r" * 32, links=LINKS, hypervolume=0.5)
    assert perf_counter() - start < 1  # measured 15 ms; the margin is for a busy machine
    rows = table_rows(text)
    assert 7_000 < len(text.encode()) < 8_000
    assert f"{1000 - len(rows)} of 1000 rows are left out here; pareto/front.csv has all." in text
    assert rows[0].startswith("| [0](")
    assert rows[-1].startswith("| [333](")


def test_a_note_that_fits_leaves_nothing_out():
    text = note("digits", rising(20), rising(20), run_id="r", links=LINKS)
    assert len(table_rows(text)) == 20
    assert "left out" not in text


def test_a_name_cannot_break_the_notes_table():
    odd = point(0.9, 1e6, family="a|b\nc<img src=x>", knobs={"tau": "x|y"})
    [row] = table_rows(note("s", [odd], [odd], run_id="r", links={}))
    assert row.startswith(r"| 0 | a\|b c&lt;img src=x&gt; | 90.00 % |")
    assert row.endswith(r"| tau=x\|y |")
