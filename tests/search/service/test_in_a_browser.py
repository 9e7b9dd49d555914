"""The pages as a person uses them, in Chromium: from a point to a model, a new study, what is done to a study."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from werkzeug.serving import make_server

import dynafront
from search.service.routes import blueprint
from storage.settings import Settings
from storage.store import Store
from tests.search.service.chromium import CHROMIUM
from tests.storage.test_mlflow_server import free_port

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; on Debian: apt install chromium"),
]
PATIENCE = 120_000  # ms: other tests share the cores
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    made, errors = context.new_page(), []
    made.on("pageerror", lambda error: errors.append(error))
    yield made
    context.close()
    assert errors == []


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A data folder with a finished study."""
    shutil.copytree(finished / "dynafront-data", tmp_path / "dynafront-data")
    return tmp_path


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """Our pages, served by this process."""
    settings = Settings.model_validate({"storage": {"folder": folder / "dynafront-data"}})
    store, app = Store.open(settings.database_url), Flask("test")
    app.register_blueprint(blueprint(store, settings))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/dynafront/"
    server.shutdown()
    thread.join()
    for job in store.jobs.open_jobs():
        if job.pid:
            os.kill(job.pid, signal.SIGKILL)


@pytest.fixture
def ui(folder: Path) -> Iterator[str]:
    """`dynafront ui`, with MLflow behind it."""
    command = [sys.executable, "-m", "search.cli", "ui", "--no-browser", "--port", str(free_port())]
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "ready" in line:
                break
        (found,) = re.findall(r"http://\S+/dynafront/study\S+", "".join(said))
        yield found
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_from_the_front_to_a_model_on_disk_in_three_clicks(
    ui: str, page: Any, folder: Path
) -> None:
    page.goto(ui)
    marker = page.locator("#chart .scatterlayer .trace .points path").last
    box = marker.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download() as downloading:
        page.get_by_role("link", name=re.compile("Download")).click()
    names = zipfile.ZipFile(downloading.value.path()).namelist()
    assert any(name.endswith("model.onnx") for name in names)
    said = page.get_by_role("status").first.inner_text()
    model = dynafront.load(folder / said.rpartition(" is in ")[2])
    assert 0 <= int(model(np.zeros((8, 8), np.uint8)).label) <= 9
    measured = page.get_by_role("table").inner_text()
    assert "latency, batch 1, onnxruntime" in measured
    assert "dynafront predict dynafront-data/exports/tiny/point-" in page.content()


def test_a_new_study_is_written_in_a_form_or_as_a_file(address: str, page: Any) -> None:
    page.goto(f"{address}new")
    text = page.get_by_label("The study file")
    page.get_by_text("12 trials").wait_for()
    page.get_by_label("Trials", exact=True).fill("7")
    page.get_by_label("Trials", exact=True).press("Tab")
    page.get_by_text("7 trials").wait_for()
    assert "  trials: 7\n" in text.input_value()
    sizes = page.get_by_label("Image size, or sizes")
    sizes.fill("8, 16")
    sizes.press("Tab")
    playwright.expect(text).to_have_value(re.compile(r"\nimage_size: \[8, 16\]\n"))
    weights = page.get_by_label("Weights to start from")
    weights.fill("torchvision:resnet18")
    weights.press("Tab")
    playwright.expect(text).to_have_value(re.compile("init_from: 'torchvision:resnet18'"))
    weights.fill("")
    weights.press("Tab")
    epochs = page.get_by_label("Epochs", exact=True)
    epochs.fill("2")
    epochs.press("Tab")
    page.get_by_role("button", name=re.compile("warm_epochs: 4 is more than")).wait_for()
    epochs.fill("12")
    epochs.press("Tab")
    page.get_by_text("7 trials").wait_for()
    text.fill(text.input_value().replace("epochs: 12", "epochs: 9").replace("my-study", "tiny"))
    page.get_by_text("There is a study tiny already").wait_for()
    assert page.get_by_label("Epochs", exact=True).input_value() == "9"
    page.get_by_label("multi_exit").check()
    page.get_by_text("multi_exit: ").wait_for()
    assert "families: [gated_resnet, multi_exit]" in text.input_value()
    text.fill(text.input_value().replace("study: tiny", f"study: {EVIL}"))
    mistake = page.get_by_role("button", name=re.compile("line 1: study"))
    mistake.wait_for()
    assert EVIL in mistake.inner_text()
    assert page.locator("img").count() == 0
    assert page.get_by_role("button", name="Start").is_disabled()


def test_a_study_is_deleted_after_a_question_by_keyboard_alone(
    address: str, page: Any, folder: Path
) -> None:
    page.goto(address)
    page.get_by_role("button", name="Delete: tiny").focus()
    page.keyboard.press("Enter")
    question = page.get_by_role("dialog", name="Delete tiny?")
    question.wait_for()
    page.keyboard.press("Escape")
    question.wait_for(state="detached")
    assert (folder / "dynafront-data" / "checkpoints" / "tiny").exists()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete for good").focus()
    page.keyboard.press("Enter")
    page.get_by_text("No study yet").wait_for()
    assert page.locator(".job").inner_text().startswith("done")
