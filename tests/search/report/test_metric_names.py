"""Whatever a person reads of points that were not measured by top-1 accuracy names the metric."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from search.commands.export import Choice
from search.commands.finalists import bias_text as finalists_text
from search.export.selection_bias import bias_text, selection_bias
from search.front.formats import as_csv
from search.front.offer import offer_of
from search.front.pick import pick
from search.objectives import MACS, Reference
from search.report.front_note import front_table, note
from search.report.front_plot import front_png
from search.report.front_table import terminal_table
from search.report.front_text import about, offer_text, summary
from search.report.no_front import no_front_text
from search.run.point_run import point_measures
from search.run.study_run import front_history
from search.run.trial_run import trial_measures
from search.spec import parse_study
from storage.records import Kind, PointRecord
from storage.saved_views import saved_views
from storage.store import Store
from tests.points import operating_point
from tests.search.report.fronts import embedded, page, point
from tests.storage.test_saved_views import state
from trainers.metrics import BALANCED, TOP5

OWN = {"metric": "balanced_accuracy", "top1": 0.97, "rates": {}}
POINTS = [point(0.7, 1e6, 1, extra=OWN), point(0.9, 2e6, 2, extra=OWN)]


def printed(points: list[PointRecord], width: int) -> str:
    written = io.StringIO()
    Console(file=written, width=width).print(terminal_table(points, width))
    return written.getvalue()


def test_sentences() -> None:
    assert summary("s", POINTS).endswith("up to 90.0 % balanced accuracy at 2.00 M MACs")
    assert "efficient pick: 90.0 % balanced accuracy at" in offer_text(offer_of(POINTS, [], MACS))
    assert about(POINTS, 0.5, 0.5).endswith(
        "always answering the largest class: 50.0 % balanced accuracy"
    )
    five = [point(0.7, 1e6, extra={"metric": "top5_accuracy", "top1": 0.3})]
    assert about(five, 0.5, 0.6).endswith("the five largest classes: 60.0 % top-5 accuracy")


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_table_on_the_terminal(width: int) -> None:
    lines = printed(POINTS, width).splitlines()
    assert "balanced" in lines[0]
    assert "accuracy" in lines[1]
    assert "90.00%" in lines[-1] or "90.00%" in lines[-2]


def test_the_note_and_the_table_in_mlflow() -> None:
    text = note("s", POINTS, POINTS, run_id="r", links={})
    assert "| trial | family | balanced accuracy | 95 % interval |" in text
    columns = front_table(POINTS)["columns"]
    assert columns[3:6] == [
        "balanced_accuracy",
        "balanced_accuracy_low",
        "balanced_accuracy_high",
    ]


def test_the_picture_and_the_page() -> None:
    plain = [point(p.accuracy, p.macs_mean, p.trial) for p in POINTS]
    shown = {"hypervolume": 0.5, "majority": 0.5}
    assert front_png("s", POINTS, front=POINTS, **shown) != front_png(
        "s", plain, front=plain, **shown
    )
    html = page(POINTS)
    assert embedded(html)["metric"] == "balanced accuracy"
    assert 'aria-label="The front: balanced accuracy against cost' in html
    assert embedded(page(plain))["metric"] == "accuracy"


def test_texts_for_spreadsheets_and_programs() -> None:
    head, first, *_ = as_csv(POINTS).splitlines()
    row = dict(zip(head.split(","), first.split(","), strict=False))
    assert (row["metric"], row["accuracy"], row["top1"]) == ("balanced_accuracy", "0.7", "0.97")


def test_limits_that_no_point_keeps() -> None:
    with pytest.raises(ValueError, match=r"no point has balanced accuracy >= 0.95; the best has"):
        pick(POINTS, min_accuracy=0.95)
    with pytest.raises(ValueError, match=r"the cheapest has balanced accuracy 0.700 at"):
        pick(POINTS, max_macs=1e5)
    assert Choice(min_accuracy=0.9).words(BALANCED).endswith("90.0 % validation balanced accuracy")


def test_measures_in_mlflow() -> None:
    found = point_measures(POINTS[1])
    assert found["validation balanced accuracy"] == 0.9
    assert found["validation balanced accuracy low"] == pytest.approx(0.89)
    assert found["validation accuracy"] == 0.97
    (_, measures), *_ = front_history(POINTS, MACS, Reference(accuracy=0.5, macs=1e7))
    assert "study/best_balanced_accuracy" in measures


def test_the_saved_views_draw_it() -> None:
    views = saved_views(["width"], metric="validation balanced accuracy")
    for view in views.values():
        text = json.dumps(state(view))
        assert "validation accuracy" not in text
        assert "Balanced accuracy against compute" in text


def test_a_study_without_a_front(tmp_path: Path) -> None:
    text = "study: s\ndata: digits\nfamilies: [gated_resnet]\nobjectives: [balanced_accuracy]\n"
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    store.add_study(
        "s", parse_study(text, "s").model_dump(mode="json"), text, {"accuracy": 0.5, "macs": 1e7}
    )
    store.add_trial("s", Kind.SEARCH, 0, "gated_resnet", {}, 0, 1)
    own = [operating_point(0.505, extra=OWN)]
    store.finish_trial("s", Kind.SEARCH, 0, points=own, result={}, seconds=1.0)
    assert "best validation balanced accuracy" in trial_measures(
        store.trial("s", Kind.SEARCH, 0), store.points("s")
    )
    said = no_front_text(store, store.study("s"))
    assert "always answering the largest class, which have up to 50.0 % balanced accuracy" in said


def test_how_much_choosing_flatters() -> None:
    measured = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "images": 50}
    found = selection_bias({**measured, "selection_bias": 0.01}, 50, measured, BALANCED)
    assert (found["low"], found["high"]) == pytest.approx((-(0.02**0.5), 0.02**0.5))
    assert bias_text(found, BALANCED).endswith("+1.0 of top-1 accuracy")
    by_shares = selection_bias(measured, 50, measured, TOP5)
    assert by_shares["high"] == pytest.approx(1.959964 * (2 * 0.16 / 50) ** 0.5)
    bias = {"mean": 0.01, "points": 2, "finalists": 1, "left_out": 0}
    text = finalists_text({"metric": "macro_f1", "selection_bias": bias, "times_the_epochs": 2})
    assert "macro F1 in the search - mean of seeds = +1.00 points of macro F1" in text
