"""The views that the MLflow UI opens."""

import base64
import json
import zlib

from storage.saved_views import TAG, differing, saved_views, view_path

PARAMS = ["backbone", "target"]


def state(view: str) -> dict:
    kind, packed = json.loads(view)["state"].split(";")
    assert kind == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def axes(chart: dict) -> tuple[str, str]:
    assert chart["type"] == "SCATTER"
    return chart["xaxis"]["key"], chart["yaxis"]["key"]


def test_the_front_is_drawn_from_the_runs_of_its_points_only():
    shown = state(saved_views(PARAMS)[f"{TAG}pareto"])
    assert shown["searchFilter"] == "tags.`automl.view` = 'front'"
    linear, logarithmic, parallel = shown["compareRunCharts"]
    assert axes(linear) == ("mean M MACs per image", "validation accuracy")
    assert axes(logarithmic) == ("log10 of mean MACs per image", "validation accuracy")
    assert parallel["type"] == "PARALLEL"


def test_the_front_is_drawn_over_what_the_study_minimises():
    shown = state(saved_views(PARAMS, "M parameters")[f"{TAG}pareto"])
    assert axes(shown["compareRunCharts"][0]) == ("M parameters", "validation accuracy")
    assert shown["orderByKey"] == "metrics.`M parameters`"


def test_every_chart_stands_in_a_section_that_exists():
    for view in saved_views(PARAMS).values():
        shown = state(view)
        sections = {section["uuid"] for section in shown["compareRunSections"]}
        assert {chart["metricSectionId"] for chart in shown["compareRunCharts"]} == sections
        names = [chart["uuid"] for chart in shown["compareRunCharts"]]
        assert len(set(names)) == len(names)


def test_no_view_is_ordered_by_time_which_would_fold_the_trials_below_the_study():
    assert all(
        state(view)["orderByKey"].startswith("metrics.") for view in saved_views(PARAMS).values()
    )


def test_chosen_params_and_curves_appear():
    charts = state(saved_views(params=["width"], curves=["val/macs"])[f"{TAG}all"])[
        "compareRunCharts"
    ]
    assert [chart["type"] for chart in charts] == ["SCATTER", "SCATTER", "PARALLEL", "LINE"]
    assert charts[2]["selectedParams"] == ["width"]
    assert charts[3]["metricKey"] == "val/macs"


def test_trials_that_were_stopped_early_can_be_told_from_the_others():
    assert all(
        "tags.`automl.state`" in state(view)["selectedColumns"]
        for view in saved_views(PARAMS).values()
    )


def test_views_fit_into_an_experiment_tag():
    assert all(len(view) < 20_000 for view in saved_views(PARAMS).values())


def test_a_view_is_written_again_only_when_its_content_changed():
    old, new = saved_views(PARAMS), saved_views(params=["width"])
    later = {tag: json.dumps(json.loads(view) | {"createdAt": 1}) for tag, view in old.items()}
    assert differing(old, later) == {}
    assert differing(new, later) == new
    assert differing(old, {f"{TAG}pareto": "spoiled", f"{TAG}all": "[]"}) == old


def test_the_path_opens_charts_in_the_layout_for_training():
    assert view_path("7") == (
        "/#/experiments/7/runs?viewStateShareKey=pareto&compareRunsMode=CHART&workflowType=machine_learning"
    )
