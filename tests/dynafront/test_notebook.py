"""The notebook of the docs runs as it stands, in a kernel of its own, and shows what it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def outputs(cell: Any, kind: str) -> list[Any]:
    """What a cell shows as this type."""
    return [one["data"][kind] for one in cell.outputs if kind in one.get("data", {})]


def printed(cell: Any) -> str:
    return "".join(one.get("text", "") for one in cell.outputs)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    _, searched, table, plot, point, export, answer = (
        cell for cell in notebook.cells if cell.cell_type == "code"
    )
    assert "4 of 4 trials done" in printed(searched)
    assert "on the front" in outputs(searched, "text/plain")[-1]
    assert "macs_p95" in outputs(table, "text/html")[0]
    (figure,) = outputs(plot, "application/vnd.plotly.v1+json")
    assert {"front", "baselines"} <= {trace.get("name") for trace in figure["data"]}
    assert outputs(point, "text/plain")[0].startswith("Point(")
    assert "test accuracy" in printed(export)
    assert outputs(answer, "text/plain")[0].startswith("Prediction(label='")
    assert (tmp_path / "exported" / "model.onnx").exists()
