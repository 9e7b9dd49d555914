"""How fast the pages beside the MLflow UI are on a large study: 1,000 trainings of the table of digits, told again.

The study is written into a folder of its own, with real settings and measured operating points; a training that the
table has once more stands there twice. Measured are, as medians with the number of repeats:

- reads: milliseconds of CPU that the server takes for each REST read, without the network;
- answers: the same of an answer to a budget, at 20 budgets for each axis;
- pages, where there is Chromium and Playwright: milliseconds from opening the study's page until words stand there
  (first contentful paint), until its front is drawn, until plotly has drawn it again to zoom in, the CPU that the
  page took for all of it, and a frame of the chart while a budget line is dragged.

    python benchmarks/pages.py                          # about two minutes
    python benchmarks/pages.py --trials 1000 --repeats 5 --json
    python benchmarks/pages.py --folder FOLDER          # keep the study there, or take it from there

On a busy machine times of pages mean little: the machine's load stands beside the numbers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from benchmarks.search_bench.table import Table, Training
from search.objectives import Reference
from search.service.routes import API, blueprint
from storage.records import Kind, OperatingPoint
from storage.settings import Settings
from storage.store import Store

TABLE = Path(__file__).parent / "search_bench" / "digits"
STUDY = "large"
RESULT = {"inspection": {"images": 512, "extremes": "x" * 40_000}}  # about as much as pictures take
AXES = ("macs", "macs_p95", "parameters")  # the first answer for each makes its front
READS = ("studies", "study", "points", "trials", "why")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="trainings of the study")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement")
    parser.add_argument("--folder", type=Path, help="where the study is kept, or is taken from")
    parser.add_argument("--json", action="store_true", help="numbers for programs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        store = large_study(folder, given.trials)
        found = measured(store, folder, given.repeats)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:<42} {value:,.1f}" if isinstance(value, float) else f"{name:<42} {value}")


def large_study(folder: Path, trials: int) -> Store:
    """The study in the data folder; made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store.open(f"sqlite:///{folder / 'dynafront.db'}")
    if store.find_study(STUDY) is not None:
        return store
    table = Table(TABLE)
    reference = Reference(accuracy=0.1, macs=table.reference_macs)
    spec = table.spec.model_copy(update={"study": STUDY}).model_dump(mode="json")
    store.add_study(STUDY, spec, (TABLE / "study.yml").read_text(), reference.as_dict())
    trained = [one for one in table.trainings.values() if one.points.get(one.epochs)]
    plain = [one for one in trained if one.start == "plain"]
    others = [one for one in trained if one.start != "plain"]
    for number, one in enumerate(plain):
        add(store, Kind.BASELINE, number, one)
    for number in range(trials):
        add(store, Kind.SEARCH, number, others[number % len(others)])
    return store


def add(store: Store, kind: Kind, number: int, one: Training) -> None:
    """A training of the table, with its operating points, as one of the study."""
    store.add_trial(STUDY, kind, number, one.family, one.params, one.seed, one.epochs)
    rows = one.points[one.epochs]
    points = [operating_point(row, chosen=place == 0) for place, row in enumerate(rows)]
    store.finish_trial(STUDY, kind, number, points=points, result=RESULT, seconds=10.0)


def operating_point(row: dict[str, Any], *, chosen: bool) -> OperatingPoint:
    accuracy = row["accuracy"]
    return OperatingPoint(
        knobs=row["knobs"],
        accuracy=accuracy,
        accuracy_low=accuracy - 0.02,
        accuracy_high=min(1.0, accuracy + 0.02),
        macs_mean=row["macs_mean"],
        macs_p95=row["macs_p95"],
        macs_max=1.1 * row["macs_p95"],
        parameters=row["parameters"],
        chosen=chosen,
        extra={"rates": {}},
    )


def measured(store: Store, folder: Path, repeats: int) -> dict[str, Any]:
    """All numbers by name."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    app = Flask("pages")
    settings = Settings.model_validate({"storage": {"folder": folder}})
    app.register_blueprint(blueprint(store, settings))
    points, load = len(store.points(STUDY)), os.getloadavg()[0]
    found: dict[str, Any] = {"trainings": len(store.trials(STUDY)), "points": points}
    found |= {"repeats": repeats, "load of the machine": load}
    found |= reads(app.test_client(), repeats)
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        import playwright  # noqa: F401
    except ImportError:
        browser = None
    if browser is None:
        return found | {"pages": "not measured: Chromium and Playwright are needed"}
    with serving(app) as address:
        return found | pages(address, browser, repeats)


def reads(client: FlaskClient, repeats: int) -> dict[str, float]:
    """Milliseconds of CPU of each read, the first of all apart: it makes the front."""
    found = {"CPU ms, first read of the points": _ms(client, "points")}
    for path in READS:
        found[f"CPU ms, {path}"] = statistics.median(_ms(client, path) for _ in range(repeats))
    budgets = [f"{30 + 10 * step}k" for step in range(20)]
    asked = [f"answer?max={budget}&axis={axis}" for axis in AXES for budget in budgets]
    taken = [_ms(client, path) for path in asked for _ in range(repeats)]
    return found | {
        "CPU ms, an answer": statistics.median(taken),
        "CPU ms, slowest answer": max(taken),
    }


def _ms(client: FlaskClient, path: str) -> float:
    start = time.process_time()
    answer = client.get(f"{API}/{path}{'&' if '?' in path else '?'}study={STUDY}")
    assert answer.status_code == 200, answer.text
    return 1000 * (time.process_time() - start)


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()


SINCE_OPENED = "name => performance.getEntriesByName(name)[0].startTime"
MARKS = {"paint": "first-contentful-paint", "front": "front drawn", "chart": "chart drawn"}
DRAWN = "#chart .points .point"
# milliseconds a frame while the budget goes from one end of the chart to the other
DRAG = """async () => {
  const axis = document.getElementById("chart").getBoundingClientRect(), frames = [];
  const line = document.getElementById("budget-line");
  const to = (name, clientX) => line.dispatchEvent(new PointerEvent(name, { clientX, pointerId: 1 }));
  to("pointerdown", axis.left + 90);
  let last = await new Promise(requestAnimationFrame);
  for (let step = 0; step < 60; step++) {
    to("pointermove", axis.left + 90 + step * 5);
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
  }
  to("pointerup", axis.left + 400);
  return frames.sort((a, b) => a - b)[30];
}"""


WORDS = {
    "paint": "ms, first words on the study's page",
    "front": "ms, its front drawn",
    "chart": "ms, its chart drawn by plotly",
    "cpu": "CPU ms, the page until then",
    "frame": "ms, a frame while the budget is dragged",
}


def pages(address: str, browser: str, repeats: int) -> dict[str, float]:
    """Milliseconds of the study's page in Chromium, each time in a new profile."""
    from playwright.sync_api import sync_playwright

    taken: dict[str, list[float]] = {key: [] for key in WORDS}
    with sync_playwright() as playwright:
        for _ in range(repeats):
            one = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = one.new_page(viewport={"width": 1280, "height": 800})
            costs = page.context.new_cdp_session(page)
            costs.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.goto(f"{address}/dynafront/study?name={STUDY}", wait_until="commit")
            page.wait_for_selector(DRAWN, state="attached")
            taken["cpu"].append(_task_ms(costs.send("Performance.getMetrics")["metrics"]))
            for key, mark in MARKS.items():
                taken[key].append(page.evaluate(SINCE_OPENED, mark))
            taken["frame"].append(page.evaluate(DRAG))
            one.close()
    return {WORDS[key]: statistics.median(values) for key, values in taken.items()}


def _task_ms(metrics: list[dict[str, Any]]) -> float:
    return next(1000 * one["value"] for one in metrics if one["name"] == "TaskDuration")


if __name__ == "__main__":
    main()
