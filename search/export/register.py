"""An exported model as a registered MLflow model version that any MLflow user can load and serve.

The version is the exported folder, run in onnxruntime by storage/served_model.py: loading it does not need dynafront.
"""

from __future__ import annotations

import json
from pathlib import Path

from search.export.card import metric_of_report
from search.export.folder import CARD, MODEL
from storage.mlflow_models import log_model
from storage.records import StudyRecord
from storage.settings import Settings


def register(record: StudyRecord, settings: Settings, folder: Path, alias: str) -> str:
    """Log and register the model in `folder` as dynafront-STUDY with an alias; returns its models:/ address.

    The study must be in MLflow. Raises StorageError.
    """
    assert record.experiment_id
    assert record.run_id
    description = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    report = description["report"]
    own = metric_of_report(report).name
    metrics = {
        f"test/{name.replace('accuracy', own)}": float(value)
        for name, value in report["test"].items()
    }
    return log_model(
        settings,
        experiment_id=record.experiment_id,
        parent_id=record.run_id,
        run_name=f"export {alias}",
        model_name=f"dynafront-{record.name}",
        alias=alias,
        folder=folder,
        metrics=metrics,
        tags={
            "automl.kind": "export",
            "automl.study": record.name,
            "automl.trial": str(description["trial"]),
        },
        description=(folder / CARD).read_text(encoding="utf-8"),
    )
