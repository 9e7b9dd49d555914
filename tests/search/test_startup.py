"""What each command imports: those that only read or print must not load what trains, logs or draws.

A fresh interpreter each, because in this one everything is imported already.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.objectives import macs_text

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "mlflow",
    "optuna",
    "onnx",
    "onnxruntime",
    "matplotlib",
    "pyarrow",
    "pandas",
    "sklearn",
    "scipy",
)
PROGRAM = """\
import sys
from search.cli import main
try:
    main(sys.argv[2:])
finally:
    with open(sys.argv[1], "w") as file:
        print(*sys.modules, file=file)
"""
STUDY = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"
MISTAKES = {
    "no YAML": "study: [",
    "unknown key": f"{STUDY}trails: 3\n",
    "wrong value": f"{STUDY}budget: {{trials: many}}\n",
    "unknown family": STUDY.replace("gated_resnet", "gated_resnt"),
    "unknown dimension": f"{STUDY}space: {{gated_resnet: {{traget: 0.5}}}}\n",
    "beyond a range": f"{STUDY}space: {{gated_resnet: {{target: 7}}}}\n",
    "unknown data": STUDY.replace("digits", "digit"),
    "folder that is not there": STUDY.replace("digits", "folder:nowhere"),
    "weights that are not there": f"{STUDY}init_from: nowhere.pt\n",
}


def started(folder: Path, *words: str) -> tuple[int, str, set[str]]:
    """(exit code, all that was printed, heavy modules that were imported) of a command in a process of its own."""
    listed = folder / "modules.txt"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(listed), *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout, set(HEAVY) & set(listed.read_text().split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "status",
        "list",
        "clean --dry-run",
        "status tiny",
        "front tiny",
        "front tiny --format csv",
        "front tiny --format json",
        "front tiny --plot page.html",
        "finalists tiny",
        "spaces",
        "spaces gated_resnet",
        "schema",
    ],
)
def test_commands_that_read_tables_import_nothing_that_trains(finished: Path, words: str) -> None:
    code, output, heavy = started(finished, *words.split())
    assert code == 0, output
    assert heavy == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["status", "front", "finalists", "export", "inspect", "ui", "sync", "clean", "delete"],
)
def test_a_mistyped_study_is_answered_without_what_trains(finished: Path, command: str) -> None:
    code, output, heavy = started(finished, command, "tinny")
    assert code == 2
    assert "there is no study tinny" in output
    assert heavy == set()


@pytest.mark.slow
def test_comparing_imports_nothing_that_trains(finished: Path) -> None:
    code, output, heavy = started(finished, "compare", "tiny", "tinny")
    assert code == 2
    assert "there is no study tinny" in output
    assert heavy == set()


@pytest.mark.slow
def test_predict_needs_onnxruntime_alone(finished: Path, tmp_path: Path) -> None:
    model, image = tmp_path / "model", tmp_path / "image.png"
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(image)
    assert started(finished, "export", "tiny", "--pick", "best", "--out", str(model))[0] == 0
    code, output, heavy = started(tmp_path, "predict", "model", "image.png")
    assert code == 0, output
    assert heavy == {"onnxruntime"}
    from search.export.model import load_exported

    label, probability, macs = load_exported(model).predict(image)
    said = f"image.png: {label} ({probability:.1%}, {macs_text(macs)} MACs)"
    assert output.strip() == said


FIRST_LINE = """\
import io, sys
from search.cli import main
class First(io.StringIO):
    def write(self, text):
        sys.stderr.write(f"{text.strip()} torch: {'torch' in sys.modules}")
        sys.exit(0)
sys.stdout = First()
main(["search", "tiny.yml"])
"""


@pytest.mark.slow
def test_the_first_line_of_a_search_is_there_before_what_takes_long(finished: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LINE], cwd=finished, capture_output=True, text=True
    )
    assert done.stderr.startswith("tiny: 3 trials of ")
    assert done.stderr.endswith("torch: False")


@pytest.mark.slow
@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_a_study_file_is_found_without_what_trains(
    finished: Path, tmp_path: Path, what: str
) -> None:
    (tmp_path / "wrong.yml").write_text(MISTAKES[what])
    code, output, heavy = started(tmp_path, "search", "wrong.yml")
    assert code == 2
    assert "Error: wrong.yml: " in output
    assert heavy == set()


@pytest.mark.slow
def test_our_pages_are_served_without_what_trains_or_logs() -> None:
    program = "import sys, search.service.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(HEAVY) & set(done.stdout.split()) == set()
