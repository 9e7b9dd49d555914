"""What the run of a study shows in MLflow: its front as files and as a note, and how the front grew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import accumulate, groupby

from search.front.formats import as_csv
from search.front.metric import metric_of
from search.front.pareto import hypervolume_history
from search.front.stored import StudyFront
from search.objectives import Cost, Reference
from search.report.front_note import STRIP, front_table, note
from storage.records import PointRecord


def front_artifacts(
    study: str, front: StudyFront, majority: float | None = None
) -> dict[str, bytes]:
    """The front as files by artifact path."""
    # draws with matplotlib, which a search that shows nothing yet does not need
    from search.report.front_page import front_html
    from search.report.front_plot import front_png
    from search.report.front_strip import front_strip_png

    shown = front.shown(majority)
    files = {
        "pareto/front.csv": as_csv(front.members).encode(),
        "pareto/front_table.json": json.dumps(front_table(front.members, front.cost)).encode(),
        "pareto/front.png": front_png(study, front.points, **shown),
        STRIP: front_strip_png(
            front.points,
            front=front.members,
            baselines=front.baselines,
            cost=front.cost,
            offer=front.offer,
        ),
        "pareto/front.html": front_html(study, front.points, **shown).encode(),
    }
    if front.baselines:
        files["pareto/static.csv"] = as_csv(front.baselines).encode()
    return files


def front_note(
    study: str,
    front: StudyFront,
    cost: Cost,
    *,
    experiment: str,
    run: str,
    charts: str,
    runs: Mapping[str, str],
    page: str = "",
    majority: float | None = None,
) -> str:
    """The note of the study's run; `runs` are those of points by id, `charts` the path of the saved view.

    `page` is the address of the study's page in the same server; empty where that has none.
    """
    links = {
        int(point): f"#/experiments/{experiment}/runs/{own}?workflowType=machine_learning"
        for point, own in runs.items()
    }
    return note(
        study,
        front.points,
        front.members,
        run_id=run,
        links=links,
        baselines=front.baselines,
        hypervolume=front.volume,
        views=({"the study's page": page} if page else {})
        | {"charts of the front": charts.lstrip("/")},
        cost=cost,
        majority=majority,
        offer=front.offer,
    )


def front_history(
    points: list[PointRecord], cost: Cost, reference: Reference
) -> list[tuple[int, dict[str, float]]]:
    """(finished trials, metrics) after each: hypervolume, points on the front, the best accuracy so far.

    The last is named by the metric.
    """
    best = list(
        accumulate(
            (max(p.accuracy for p in own) for _, own in groupby(points, lambda p: p.training)), max
        )
    )
    history = hypervolume_history(points, costs=(cost,), reference=reference)
    # steps count finished trials: by trial number, parallel trials that overtake each other would rewrite the past
    return [
        (
            step,
            {
                "study/hypervolume": volume,
                "study/pareto_size": size,
                f"study/best_{metric_of(points).name}": best[step - 1],
            },
        )
        for step, (_, volume, size) in enumerate(history, 1)
    ]
