"""The page of a front."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from time import perf_counter

import pytest

from search.front.pareto import front
from search.objectives import MACS_P95
from tests.search.report.fronts import BASELINES, CLOUD, embedded, page, point, rising


def test_the_page_needs_nothing_but_itself():
    html = page(CLOUD, baselines=BASELINES)
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
    data = embedded(page([*CLOUD, *BASELINES], baselines=BASELINES))
    rows = [(row[1], row[2], row[5], row[-1]) for row in data["points"]]
    assert sorted(rows) == sorted(
        [
            (str(p.trial), p.accuracy, p.macs_mean, "front" if p in front(CLOUD) else "cloud")
            for p in CLOUD
        ]
        + [("baseline 1000", p.accuracy, p.macs_mean, "plain") for p in BASELINES]
    )
    assert {row[-2] for row in data["points"]} == {None}
    numbered = embedded(page([point(0.9, 1e6, id=12)]))["points"]
    assert numbered[0][-2:] == [12, "front"]
    assert data["configs"][0] == {
        "family": "gated_resnet",
        "params": {"backbone": "resnet20", "gates.target": 0.5},
    }
    assert data["knobs"][0] == {"tau": 0.5}


def test_the_page_says_which_cost_it_shows():
    assert embedded(page(CLOUD))["axis"] == "MACs per image (mean)"
    shown = embedded(page(CLOUD, cost=MACS_P95))
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
    assert embedded(page([point(0.9, 1e6, knobs={"tau": math.nan, "limit": math.inf})]))[
        "knobs"
    ] == [{"tau": "nan", "limit": "inf"}]


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
