"""The note of a study's run in MLflow, and the table of its front."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from time import perf_counter

from PIL import Image, ImageStat

from search.front.pareto import front
from search.report.front_note import front_table, note
from search.report.front_strip import front_strip_png
from search.report.front_text import summary
from tests.search.report.fronts import BASELINES, CLOUD, embedded, page, plain, point, rising


def test_the_table_has_a_value_for_each_column_and_the_cheapest_first():
    table = front_table([point(0.95, 4e6, 2), point(0.9, 2e6, 1, run_id="abc")])
    assert [len(row) for row in table["data"]] == [len(table["columns"])] * 2
    first = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (first["trial"], first["macs_p95"], first["run_id"]) == (1, 4e6, "abc")
    assert first["point"] is None
    assert (first["knobs"], first["params"]) == ("tau=0.5", "backbone=resnet20 gates.target=0.5")
    assert json.loads(json.dumps(table)) == table


LINKS = {number: f"#/experiments/1/runs/{number:032x}" for number in range(1000)}


def table_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def test_the_note_begins_with_a_strip_then_the_summary_the_table_and_the_picture() -> None:
    members = [replace(p, id=number) for number, p in enumerate(front(CLOUD))]
    lines = note(
        "digits", CLOUD, members, run_id="r1", links=LINKS, baselines=BASELINES
    ).splitlines()
    assert lines[0] == "![front](/get-artifact?path=pareto%2Fstrip.png&run_uuid=r1)"
    assert lines[2] == f"**{summary('digits', members, BASELINES)}**"
    assert lines[4].startswith("efficient pick: 95.0 % at 4.00 M MACs (trial 2): `dynafront export")
    assert lines[6].startswith("| point | trial | family | accuracy |")
    assert re.fullmatch(r"\|( --- \|){9}", lines[7])
    costs = "1.00 M | 2.00 M | 1.00 k"
    assert (
        lines[8]
        == f"| 0 | [1]({LINKS[0]}) | gated_resnet | 70.00 % | 69.0 % to 71.0 % | {costs} | tau=0.5 |"
    )
    assert lines[-1] == "![front](/get-artifact?path=pareto%2Ffront.png&run_uuid=r1)"
    assert len(lines) == 13


def test_the_strip_is_as_small_as_what_mlflow_shows_of_a_note() -> None:
    """At 1280 x 800 a note shows 714 x 100 pixels, the lower ones faded; looked at in Chromium, MLflow 3.17."""
    png = front_strip_png(CLOUD, front=front(CLOUD), baselines=BASELINES)
    picture = Image.open(io.BytesIO(png)).convert("L")
    assert picture.size == (700, 66)
    assert ImageStat.Stat(picture.crop((217, 0, 700, 52))).stddev[0] > 5, "a front is drawn"
    assert ImageStat.Stat(picture.crop((0, 0, 200, 33))).stddev[0] > 5, "words stand beside it"
    empty = Image.open(io.BytesIO(front_strip_png([], front=[])))
    assert empty.size == (700, 66)


def test_baselines_on_the_front_are_called_that() -> None:
    winner = plain(0.95, 1e4)
    members = front([*CLOUD, winner])
    none = "none beats the baselines of equal cost"
    assert summary("s", members, [winner]) == f"s: 1 point on the front (1 of baselines), {none}"
    found = [replace(p, id=7) for p in members]
    (row,) = table_rows(note("s", CLOUD, found, run_id="r", links={7: "#plain", 8: "#trial"}))
    assert row.startswith("| 7 | [baseline 1000](#plain) | resnet |")
    roles = {
        (name, role)
        for _, name, *_, role in embedded(page([*CLOUD, winner], baselines=(winner,)))["points"]
    }
    assert ("baseline 1000", "plain") in roles


def test_a_trial_without_a_run_stands_in_the_note_without_a_link():
    assert table_rows(note("s", CLOUD, front(CLOUD), run_id="r", links={}))[0].startswith(
        "|  | 1 | gated"
    )


def test_a_long_note_keeps_both_ends_and_says_what_it_left_out():
    points = rising(1000)
    start = perf_counter()
    text = note("digits", points, points, run_id="r" * 32, links=LINKS, hypervolume=0.5)
    assert perf_counter() - start < 1  # measured 15 ms; the margin is for a busy machine
    rows = table_rows(text)
    assert 7_000 < len(text.encode()) < 8_000
    assert f"{1000 - len(rows)} of 1000 rows are left out here; pareto/front.csv has all." in text
    assert rows[0].startswith("| 0 | [0](")
    assert rows[-1].startswith("| 999 | [333](")


def test_a_note_that_fits_leaves_nothing_out():
    text = note("digits", rising(20), rising(20), run_id="r", links=LINKS)
    assert len(table_rows(text)) == 20
    assert "left out" not in text


def test_a_name_cannot_break_the_notes_table():
    odd = point(0.9, 1e6, family="a|b\nc<img src=x>", knobs={"tau": "x|y"})
    [row] = table_rows(note("s", [odd], [odd], run_id="r", links={}))
    assert row.startswith(r"|  | 0 | a\|b c&lt;img src=x&gt; | 90.00 % |")
    assert row.endswith(r"| tau=x\|y |")
