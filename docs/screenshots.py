"""Makes the pictures of the browser that the README shows, from a finished study of digits.

    dynafront search studies/digits.yml
    python docs/screenshots.py            # about two minutes; needs Chromium, and pip install -e '.[dev]'

Writes docs/studies.png (all studies), docs/ui.png (a study with a point open), docs/exported.png (the point, exported)
and docs/mlflow.png (the saved view in MLflow's UI). Exports the efficient point into the data folder.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from playwright.sync_api import sync_playwright

from storage.saved_views import view_path
from storage.settings import settings
from storage.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = Path(__file__).parent
STUDY, PORT = "digits", 5055
PATIENCE = 180_000  # ms, of a busy machine
SETTLED = 2_000  # ms, until charts are drawn


def main() -> None:
    """Start the server, take all pictures, stop it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        sys.exit("Chromium is needed; on Debian: apt install chromium")
    experiment = Store.open(settings().database_url).study(STUDY).experiment_id
    with _server() as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/dynafront/")
        page.wait_for_selector(".card")
        _picture(page, "studies.png", height=420)
        page.goto(f"{address}/dynafront/study?name={quote(STUDY)}")
        export = page.get_by_role("button", name=re.compile("^Export( again)?$"))
        export.wait_for()
        _picture(page, "ui.png")
        export.click()
        page.get_by_role("link", name=re.compile("Download")).wait_for()
        _picture(page, "exported.png", height=800)
        page.set_viewport_size({"width": 1900, "height": 1100})
        page.goto(f"{address}{view_path(str(experiment))}")
        page.wait_for_selector(".js-plotly-plot")
        _picture(page, "mlflow.png", settle=5 * SETTLED)
        chromium.close()


def _picture(page: Page, name: str, *, height: int | None = None, settle: int = SETTLED) -> None:
    """The upper part of the page as docs/`name`."""
    page.wait_for_timeout(settle)
    size = page.viewport_size
    assert size is not None
    clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
    page.screenshot(path=HERE / name, clip=clip)  # type: ignore[arg-type]
    print(HERE / name)


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "search.cli", "ui", STUDY, "--no-browser", "--port", str(PORT)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "ready" in line:
                break
        else:
            sys.exit("the server did not start")
        yield f"http://127.0.0.1:{PORT}"
    finally:
        process.terminate()
        process.communicate(timeout=60)


if __name__ == "__main__":
    main()
