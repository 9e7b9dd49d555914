"""What `dynafront status` says of a study."""

from __future__ import annotations

from pathlib import Path

from search.commands.status import as_text, statuses
from search.spec import parse_study
from storage.store import Store

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 4, epochs: 3}\n"


def test_status_says_where_exported_models_are(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    store.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7})
    store.add_export("s", pick="knee", folder="models/knee", report={})
    store.add_export("s", pick="best", folder="models/best", report={}, model_uri="models:/s@best")
    (status,) = statuses(store, "s")
    assert [export["folder"] for export in status["exports"]] == ["models/knee", "models/best"]
    assert "  exported knee: models/knee\n  exported best: models:/s@best" in as_text(status)
