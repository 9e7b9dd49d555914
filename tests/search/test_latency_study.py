"""A study that minimises latency: what a person gets of it, from the table to the exported model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from search.cli import main
from search.export import onnx_check
from search.export.timed_points import time_finalists
from search.front.curves import ReferencePoint
from search.front.formats import as_csv
from search.front.offer import offer_of
from search.front.pick import pick
from search.front.region import corner_of
from search.objectives import COSTS, LATENCY, LATENCY_P95, MACS, Shape, costs_of, milliseconds
from search.report.front_note import front_table, note
from search.report.front_page import front_html
from search.report.front_strip import front_strip_png
from search.report.front_text import offer_text
from search.run.point_run import cost_measure, point_measures
from search.schedule.limits import limit_of
from search.service.axes import axes, latencies
from search.spec import parse_study
from search.study_parts import Region
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy import ship
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store
from tests.points import point

STUDY = """
study: fast
data: digits
families: [gated_resnet]
space:
  gated_resnet: {backbone: resnet8, width: 0.5, granularity: layer, gate: dependent, exits: none}
budget: {trials: 1, epochs: 3}
objectives: [accuracy, latency]
latency: here.json
region: {max_latency_ms: 5}
run: {workers: 0, threads: 1, device: cpu, precision: float32}
"""


def timed(accuracy: float, macs: float, ms: float, trial: int):
    extra = {"latency_mean": ms, "latency_p95": 2 * ms, "latency_max": 3 * ms}
    return point(accuracy, macs, trial, extra=extra)


# by MACs the second is the cheapest, by latency the first
POINTS = [timed(0.8, 3e6, 0.5, 1), timed(0.9, 2e6, 1.5, 2)]


def dynafront(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.mark.slow
def test_from_the_table_to_a_model_within_milliseconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fast.yml").write_text(STUDY)
    early = dynafront("search", "fast.yml")
    assert early.exit_code == 2
    assert "latency: here.json: cannot be read" in early.output
    assert "Error: latency: here.json" in dynafront("check", "fast.yml").output
    profiled = dynafront("profile", "fast.yml", "--seconds", "0.1")
    assert profiled.exit_code == 0, profiled.output
    assert "wrote here.json" in profiled.output
    kept = dynafront("profile", "fast.yml", "--table", "here.json", "--out", "kept.json")
    assert kept.exit_code == 0, kept.output
    assert Path("kept.json").read_text() == Path("here.json").read_text()
    found = dynafront("search", "fast.yml")
    assert found.exit_code == 0, found.output
    times = json.loads(Path("here.json").read_text())
    slower = {
        key: unit | {name: 2 * unit[name] for name in ("median", "low", "high")}
        for key, unit in times["units"].items()
    }
    Path("here.json").write_text(json.dumps(times | {"units": slower}))
    other = dynafront("search", "fast.yml")
    assert other.exit_code == 2
    assert "here.json has other times than study fast began with" in other.output
    Path("here.json").write_text(json.dumps(times))
    (*_, best) = points = json.loads(dynafront("front", "fast", "--format", "json").output)[
        "points"
    ]
    _no_dynamic_network_is_slower_than_a_static_one_as_accurate(points)
    assert 0 < best["latency_mean"] <= best["latency_p95"] <= best["latency_max"] < 5
    assert re.search(r"[\d.]+ ms", dynafront("front", "fast").output)
    none = dynafront("export", "fast", "--max-latency-ms", "0.000001")
    assert none.exit_code == 2
    assert re.search(r"no point costs <= 1e-06 ms; the cheapest has accuracy .* ms", none.output)
    forms, made = ship.onnx_forms, list[object]()

    def counted(*of: Any) -> ship.OnnxForms:
        made.append(of)
        return forms(*of)

    monkeypatch.setattr(onnx_check, "onnx_forms", counted)
    monkeypatch.setattr(ship, "onnx_forms", counted)
    done = dynafront("export", "fast", "--max-latency-ms", "5 ms")
    assert done.exit_code == 0, done.output
    timed = re.findall(r"ms predicted, [\d.]+ ms measured; the limit of 5 ms is kept", done.output)
    assert len(timed) == 1
    assert len(made) == 2 + 2, (
        "the model, and the static network beside it; when picked, and at export"
    )
    assert "among the points of at most 5 ms" in done.output
    assert re.search(r"limit     at most 5 ms asked for: [\d.]+ ms measured", done.output)
    again = dynafront("export", "fast", "--max-latency-ms", "5 ms", "--force")
    assert again.exit_code == 0, again.output
    assert "the limit of 5 ms" not in again.output, "a point is timed once"
    assert re.search(
        r"by table  [\d.]+ ms predicted, [\d.]+ ms measured: [\d.]+ times", done.output
    )
    _finalists_are_timed_where_the_table_is_of_this_machine(times)


def _no_dynamic_network_is_slower_than_a_static_one_as_accurate(front: list[Any]) -> None:
    store = Store.open(Settings().database_url)
    static = [(p.accuracy, LATENCY.of(p)) for p in store.points("fast", kind=Kind.BASELINE)]
    dynamic = [row for row in front if row["kind"] == Kind.SEARCH]
    assert static
    assert dynamic
    for row in dynamic:
        beaten = [ms for accuracy, ms in static if accuracy >= row["accuracy"]]
        assert all(row["latency_mean"] < ms for ms in beaten), row


def _finalists_are_timed_where_the_table_is_of_this_machine(times: dict[str, Any]) -> None:
    settings, said = Settings(), list[str]()
    store = Store.open(settings.database_url)
    record = store.study("fast")
    Path("here.json").write_text(json.dumps(times | {"machine": {"name": "phone"}}))
    assert time_finalists(store, record, settings, [0], said.append) == 0
    assert re.match(
        "finalists keep their predicted latency: the latency table is of .*phone", said[0]
    )
    Path("here.json").write_text(json.dumps(times))
    before = store.stamp("fast")
    count = time_finalists(store, record, settings, [0], said.append)
    assert count >= 0  # the export timed one of them before
    assert time_finalists(store, record, settings, [0], said.append) == 0, "each is timed once"
    assert (store.stamp("fast") != before) == (count > 0), "pages read the study again"
    rows = json.loads(dynafront("front", "fast", "--format", "json").output)["points"]
    timed = [row for row in rows if "latency_measured" in row]
    assert len(timed) == count + 1
    assert {row["trial"] for row in timed} == {0}
    assert all(row["latency_measured"] > 0 < row["latency_static"] for row in timed)
    assert "measured" in dynafront("front", "fast").output
    shown = latencies(store, "fast")
    assert {row["point"]: row["latency_measured"] for row in timed}.items() <= shown.items()


def test_latency_needs_a_table_and_is_an_objective_like_others() -> None:
    spec = parse_study(STUDY, "s.yml")
    assert spec.costs == (LATENCY,)
    assert spec.region.max_latency_ms == 5
    assert set(costs_of({})) == {"macs", "macs_p95", "parameters"}
    assert set(costs_of({"latency": "here.json"})) == set(COSTS)
    assert LATENCY.of_baseline(Shape(1, 1, 2.5)) == 2.5
    for text, message in (
        (
            "region: {max_latency_ms: 5}\n",
            "region.max_latency_ms: needs latency among the objectives",
        ),
        ("limits: {latency_ms: 5}\n", "limits.latency_ms: needs a table of times"),
        ("limits: {latency_ms: true}\n", "True is not a number of milliseconds"),
        ("limits: {latency_ms: soon}\n", "'soon' is not a number of milliseconds"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            parse_study(f"study: s\ndata: digits\nfamilies: [gated_resnet]\n{text}", "s.yml")
    with pytest.raises(ValueError, match="objectives: "):
        parse_study(STUDY.replace("latency]", "latency, latency_p95]"), "s.yml")


def test_an_amount_is_read_and_written_in_milliseconds() -> None:
    assert milliseconds("1.5 ms") == milliseconds(1.5) == LATENCY.read("1.5MS") == 1.5
    assert (LATENCY.text(0.03194), MACS.text(2e6)) == ("0.0319 ms", "2.00 M MACs")
    for wrong in ("0", "-1", "nan", "inf", "1 s", "9" * 50):
        with pytest.raises(ValueError, match="is not a number of milliseconds; write it like"):
            milliseconds(wrong)


def test_points_are_picked_and_limited_by_latency() -> None:
    assert pick(POINTS, "fastest", cost=LATENCY).trial == 1
    assert pick(POINTS, "best", max_latency_ms=1.0).trial == 1
    assert pick(POINTS, "best", max_latency_ms=2.0, cost=LATENCY_P95).trial == 1
    both = [*POINTS, timed(0.7, 1e6, 3.0, 3)]
    with pytest.raises(
        ValueError, match=r"no point costs at most 1\.50 M MACs and 1 ms, but some keep"
    ):
        pick(both, max_macs=1.5e6, max_latency_ms=1.0)
    with pytest.raises(ValueError, match=r"no point has accuracy >= 0.85 at <= 1 ms; the nearest"):
        pick(POINTS, max_latency_ms=1.0, min_accuracy=0.85)
    with pytest.raises(ValueError, match="the study has no table of times; dynafront profile"):
        pick([point(0.9, 1e6)], max_latency_ms=1.0)


def test_a_region_of_latency_is_a_corner_of_the_front() -> None:
    reference = ReferencePoint(0.1, (10.0,))
    assert corner_of(Region(max_latency_ms=5), reference, (LATENCY,), 0.9).tolist() == [1, 0.5]


def test_a_network_that_takes_too_long_is_not_trained(tmp_path: Path) -> None:
    from search.latency.table import write_table
    from search.schedule.timed_shapes import untrained
    from spaces.contract.units import units_of
    from tests.search.latency.tables import table_of

    task = Task(channels=1, height=8, width=8, classes=10)
    one = Candidate.of(family("gated_resnet"), {"backbone": "resnet8", "width": 0.25}, 1)
    write_table(table_of(units_of(untrained(one, task))), tmp_path / "t.json")
    text = STUDY.replace("here.json", str(tmp_path / "t.json"))
    assert limit_of(parse_study(text, "s"), task)(one) is None
    reason = limit_of(parse_study(f"{text}limits: {{latency_ms: 2}}\n", "s"), task)(one)
    assert re.fullmatch(r"[\d.]+ ms with everything open, limits.latency_ms allows 2", reason)
    other = Candidate.of(family("gated_resnet"), {"backbone": "resnet14", "width": 1.0}, 1)
    assert "the latency table has no time of" in limit_of(parse_study(text, "s"), task)(other)


def test_what_shows_a_front_shows_latency() -> None:
    assert offer_text(offer_of(POINTS, [], LATENCY), LATENCY).endswith("ms (trial 2)")
    assert "latency_mean" in as_csv(POINTS).splitlines()[0].split(",")
    table = front_table(POINTS, LATENCY)
    assert table["data"][0][table["columns"].index("latency_mean")] == 0.5
    text = note("s", POINTS, POINTS, run_id="r", links={}, cost=LATENCY)
    assert "| 0.5 ms |" in text
    assert point_measures(POINTS[0])[cost_measure(LATENCY)] == 0.5
    page = front_html("s", POINTS, front=POINTS, hypervolume=0.5, cost=LATENCY)
    assert '"costs":[0.5,1.5],"least":1e-06' in page.replace(" ", "")
    assert front_strip_png(POINTS, front=POINTS, cost=LATENCY)


def test_what_exports_measured_is_an_axis_of_its_own_beside_the_tables() -> None:
    assert set(axes({}, {})) == {"macs", "macs_p95", "parameters"}
    assert axes({1: 2.0}, {})["latency"].column == "latency_ms"
    both = axes({1: 2.0}, {"latency": "here.json"})
    assert (both["latency"].column, both["measured"].column) == ("latency_mean", "latency_ms")
