"""Makes the pictures of the browser that the README shows, from a finished study of digits.

    dynafront search studies/digits.yml
    python docs/screenshots.py            # about a minute; needs Chromium

Writes docs/ui.png (the study's page) and docs/mlflow.png (the saved view in MLflow's UI).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from storage.saved_views import view_path
from storage.settings import settings
from storage.store import Store

HERE = Path(__file__).parent
STUDY, PORT = "digits", 5055
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"


def main() -> None:
    """Start the server, take both pictures, stop it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        sys.exit("Chromium is needed; on Debian: apt install chromium")
    experiment = Store.open(settings().database_url).study(STUDY).experiment_id
    with _server() as address:
        shown = {
            "ui.png": (f"{address}/dynafront/study?name={quote(STUDY)}", "1400,1000", 8_000),
            "mlflow.png": (f"{address}{view_path(str(experiment))}", "1900,1100", 60_000),
        }
        for name, (url, size, budget) in shown.items():
            with tempfile.TemporaryDirectory() as profile:
                command = [browser, *FLAGS.split(), f"--user-data-dir={profile}"]
                command += [f"--window-size={size}", f"--virtual-time-budget={budget}"]
                command += [f"--screenshot={HERE / name}", url]
                subprocess.run(command, check=True, capture_output=True, timeout=300)
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
