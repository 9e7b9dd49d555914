"""The study's page in a browser: a budget that is dragged, a point that is opened, a table that sorts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from werkzeug.serving import make_server

from search.service.routes import blueprint
from search.spec import parse_study
from storage.records import EpochRecord, Kind
from storage.settings import Settings
from storage.store import Store
from tests.search.service.chromium import CHROMIUM
from tests.search.service.test_service import EVIL, TEXT, ended

pytest.importorskip("playwright.sync_api", reason="needs Playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("data")
    store = Store.open(f"sqlite:///{folder / 'dynafront.db'}")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    for name in ("s", "t", "begun", EVIL):
        store.add_study(name, spec, TEXT, {"accuracy": 0.1, "macs": 1e8})
    ended(store, "s", "static", 0, (0.85, 20e6))
    ended(store, "s", "search", 0, (0.8, 2e6), (0.7, 1e6), (0.6, 3e6))
    ended(store, "s", "search", 1, (0.95, 10e6))
    ended(store, "t", "search", 0, (0.9, 5e6))
    store.add_study(
        "bounded", spec | {"region": {"max_macs": 5e6}}, TEXT, {"accuracy": 0.1, "macs": 1e8}
    )
    ended(store, "bounded", "search", 0, (0.8, 2e6))
    ended(store, "bounded", "search", 1, (0.95, 10e6))
    store.add_trial("s", "search", 2, "gated_resnet", {"backbone": "resnet14"}, 0, 2)
    store.add_epoch("s", Kind.SEARCH, 2, EpochRecord(1, {"train/loss": 2.0}, {}))
    store.fail_trial("s", "search", 2, error=f"memory {EVIL}", epoch=1, trace="Traceback: here")
    params = {"backbone": EVIL, "width": 0.5}
    store.add_trial("begun", "search", 0, "gated_resnet", params, 0, 9)
    for epoch in (1, 2):
        metrics = {"train/loss": 1 / epoch, "val/accuracy": epoch / 4}
        store.add_epoch("begun", Kind.SEARCH, 0, EpochRecord(epoch, metrics, {}))
    app = Flask("test")
    settings = Settings.model_validate({"storage": {"folder": folder}})
    app.register_blueprint(blueprint(store, settings))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/dynafront"
    server.shutdown()
    thread.join()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    made = context.new_page()
    errors: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    yield made
    context.close()
    assert errors == [], "no script fails"


def until(page: Any, script: str) -> None:
    """Wait for what Playwright's own waiting may not look for: our pages let nothing be evaluated."""
    end = time.monotonic() + 20
    while not page.evaluate(script):
        assert time.monotonic() < end, script
        page.wait_for_timeout(50)


def open_study(page: Any, address: str, until_it: str = "load") -> None:
    page.goto(f"{address}/study?name=s", wait_until=until_it)
    page.wait_for_selector("#budget-line:not([hidden])")
    until(page, "document.getElementById('words').textContent !== ''")


def words(page: Any) -> str:
    return str(page.text_content("#words"))


def click_point(page: Any, accuracy: float, **how: Any) -> None:
    """Click on a point of the chart by its accuracy."""
    script = """accuracy => {
      const p = [...view.points.front, ...view.points.baselines].find(q => Math.abs(q.accuracy - accuracy) < 1e-9);
      const box = by("chart").getBoundingClientRect(), at = place(by("chart"), p.macs_mean, p.accuracy);
      return [box.left + at[0], box.top + at[1]];
    }"""
    x, y = page.evaluate(script, accuracy)
    if how.get("shift"):
        page.keyboard.down("Shift")
    page.mouse.click(x, y)
    page.keyboard.up("Shift")


PLACES = "view.points.front.flatMap(p => place(by('chart'), p.macs_mean, p.accuracy))"


def test_dragging_the_budget_changes_what_is_said(page: Any, address: str) -> None:
    open_study(page, address)
    assert words(page).startswith("within 10.0 M MACs: trial 1, 95.0 %")
    box = page.locator("#budget-line").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 60
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(x - 20 * step, y)
    until(page, "document.getElementById('words').textContent.includes('trial 0, 80.0 %')")
    page.mouse.up()
    assert page.input_value("#budget").endswith("M")
    page.focus("#budget-line")
    page.keyboard.press("Home")
    until(page, "document.getElementById('words').textContent.includes('70.0 %')")
    page.fill("#budget", "20M")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('words').textContent.includes('95.0 %')")
    page.fill("#budget", "many")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('words').textContent.includes('no budget')")


def test_what_is_over_the_budget_of_the_study_s_file_is_shaded(page: Any, address: str) -> None:
    page.goto(f"{address}/study?name=bounded", wait_until="load")
    until(page, "by('chart').layout && by('chart').layout.shapes.length === 1")
    shape = page.evaluate("by('chart').layout.shapes[0]")
    assert (shape["x0"], shape["label"]["text"]) == (5e6, "over 5 M")
    until(page, "document.getElementById('words').textContent.includes('trial 0, 80.0 %')")
    page.select_option("#axis", "parameters")
    until(page, "by('chart').layout.shapes.length === 0")


def test_the_front_is_drawn_and_answers_before_plotly_is_there(page: Any, address: str) -> None:
    held: list[Any] = []
    page.route("**/plotly-basic*", lambda route: held.append(route))
    open_study(page, address, until_it="commit")
    assert page.locator("#chart .plot-container").count() == 0
    assert page.locator("#sketch circle.front").count() == 3
    assert page.locator("#sketch text").count() > 6, "axes"
    click_point(page, 0.8)
    until(page, "document.getElementById('point').textContent.includes('2.00 M MACs.')")
    sketched = page.evaluate(PLACES)
    held[0].continue_()
    page.wait_for_selector("#chart .points .point", state="attached")
    assert page.locator("#sketch circle").count() == 0
    assert page.evaluate(PLACES) == pytest.approx(sketched, abs=3), "nothing jumps"


def test_of_many_studies_some_are_found_by_name(page: Any, address: str) -> None:
    def many(route: Any) -> None:
        studies = route.fetch().json()["studies"]
        first = next(one for one in studies if one["study"] == "s")
        route.fulfill(json={"studies": [first | {"study": f"photos-{i}"} for i in range(8)]})

    page.goto(f"{address}/")
    page.wait_for_selector("#cards .card")
    assert page.locator("#finding").is_hidden(), "four are seen at a glance"
    assert page.locator("#compare").is_visible()
    page.route("**/dynafront/studies", many)
    page.goto(f"{address}/")
    page.fill("#filter", "S-3")
    assert page.locator("#cards .card").count() == 1
    assert page.text_content("#count") == "1 of 8"
    page.fill("#filter", "")
    assert page.locator("#cards .card").count() == 8


def test_the_page_says_whether_the_front_still_grows(page: Any, address: str) -> None:
    open_study(page, address)
    page.wait_for_selector("#growth-chart .scatterlayer .trace", state="attached")
    assert page.text_content("#grown").startswith("the last training added ")
    page.goto(f"{address}/study?name=t")
    until(page, "growth.shown !== null")
    assert page.locator("#growth").is_hidden(), "one training grows from nothing"


def test_a_click_opens_a_point_and_shift_puts_points_side_by_side(page: Any, address: str) -> None:
    open_study(page, address)
    click_point(page, 0.8)
    until(page, "document.getElementById('point').textContent.includes('2.00 M MACs.')")
    until(page, "document.getElementById('inspected')?.textContent.includes('measure on images')")
    panel = page.text_content("#point")
    assert "dynafront export s --point" in panel
    assert "null" not in panel
    assert "80.00 %" in panel
    assert "all 3 settings of this training" in panel
    click_point(page, 0.8, shift=True)
    click_point(page, 0.95, shift=True)
    until(page, "document.querySelectorAll('#beside th[scope=col]').length === 2")
    assert "95.00 %" in page.text_content("#beside")
    click_point(page, 0.95, shift=True)
    until(page, "document.querySelectorAll('#beside th[scope=col]').length === 1")


def test_a_point_off_the_front_is_opened_as_well(page: Any, address: str) -> None:
    open_study(page, address)
    page.uncheck("#zoom")
    until(page, "cloud.xs.length === 1 && cloud.xs[0] > 0")
    box = page.locator("#chart").bounding_box()
    x, y = page.evaluate("[cloud.xs[0], cloud.ys[0]]")
    x, y = x + box["x"], y + box["y"]
    page.mouse.move(x, y)
    until(page, "document.getElementById('tip').textContent === 'trial 0: 60.0 % at 3 M'")
    page.mouse.click(x, y)
    until(page, "document.getElementById('point').textContent.includes('60.00 %')")


def test_the_table_sorts_filters_and_says_why_a_trial_failed(page: Any, address: str) -> None:
    open_study(page, address)
    first = "document.querySelector('#rows td').textContent"
    assert page.evaluate(first).startswith("trial 0")
    page.get_by_role("button", name="accuracy", exact=True).click()
    assert page.evaluate(first).startswith("trial 1")
    page.get_by_role("button", name="accuracy", exact=True).click()
    assert page.evaluate(first).startswith("trial 2")
    page.fill("#filter", "failed")
    assert page.locator("#rows tr").count() == 1
    page.get_by_role("button", name="trial 2").click()
    until(page, "document.querySelector('#trial pre') !== null")
    panel = page.text_content("#trial")
    assert EVIL in panel, "a reason stays text"
    assert "Traceback: here" in panel
    assert "dynafront search s.yml --retry-failed" in panel
    assert "dynafront status s --trace 2" in panel
    page.wait_for_selector("#trial .js-plotly-plot")
    assert page.locator("img[src=x]").count() == 0


def test_a_name_that_looks_like_markup_stays_text(page: Any, address: str) -> None:
    page.goto(f"{address}/study?name={quote(EVIL)}")
    until(page, "document.getElementById('title').textContent.includes('no operating point')")
    assert page.text_content("#name") == EVIL
    assert page.locator("img").count() == 0


def test_what_is_under_way_has_its_curve_and_an_empty_front_says_so(
    page: Any, address: str
) -> None:
    page.goto(f"{address}/study?name=begun")
    page.wait_for_selector("#running .js-plotly-plot")
    assert "trial 0 epoch 2 of 9" in page.text_content("#running")
    assert EVIL in page.text_content("#running"), "a setting stays text"
    assert "appears when the first training has ended" in page.text_content("#chart")
    boxes = [page.locator(one).bounding_box() for one in ("#running", "#running .curves")]
    assert boxes[1]["y"] + boxes[1]["height"] <= boxes[0]["y"] + boxes[0]["height"]
    page.wait_for_timeout(3_500)
    assert page.locator("#running .js-plotly-plot").count() == 1, "a poll draws the same chart on"


def test_the_why_page_draws_trainings_and_says_that_they_are_few(page: Any, address: str) -> None:
    page.goto(f"{address}/why?name=s")
    page.wait_for_selector("#parallel .training", state="attached")
    assert page.locator("#parallel .training").count() == 2
    assert "2 of the 24 trainings" in page.text_content("#state")
    page.goto(f"{address}/why?name={quote(EVIL)}")
    until(page, "document.getElementById('title').textContent.startsWith('0 trainings')")
    assert page.text_content("#name") == EVIL
    assert page.locator("img").count() == 0


def test_the_compare_page_compares_what_is_chosen(page: Any, address: str) -> None:
    page.goto(f"{address}/compare?study=s&study=t")
    page.wait_for_selector("#pairs table")
    page.wait_for_selector("#chart .point", state="attached")
    assert "dynafront compare t s" in page.text_content("#pairs")
    page.get_by_label("begun").check()
    until(page, "document.getElementById('title').textContent.includes('begun has no front yet')")
    page.get_by_label("begun").uncheck()
    page.get_by_label("s 3 points").uncheck()
    until(page, "document.getElementById('title').textContent.startsWith('Choose two to four')")
    assert EVIL in page.text_content("#choice")
