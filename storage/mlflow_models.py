"""Registered models: an ONNX file with signature, metrics and alias, that any MLflow user can load and serve."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.settings import Settings


def log_model(
    settings: Settings,
    *,
    experiment_id: str | None,
    parent_id: str | None,
    run_name: str,
    model_name: str,
    alias: str,
    onnx_file: Path,
    folder: Path,
    shape: tuple[int, int, int],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    description: str,
) -> str:
    """Log the model in a run of its own below the study's, register it, set the alias; returns models:/NAME@ALIAS.

    The run also gets the folder's files, so that the rebuildable weights lie beside the ONNX file. Raises ValueError
    when the study is not in MLflow yet.
    """
    if experiment_id is None or parent_id is None:
        raise ValueError("the study is not in MLflow yet; run `dynafront sync` first")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow
    import onnx

    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_registry_uri(settings.registry_uri)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    run_tags = {"mlflow.parentRunId": parent_id, **tags}
    with (
        warnings.catch_warnings(),
        mlflow.start_run(experiment_id=experiment_id, run_name=run_name, tags=run_tags),
    ):
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints and of pip
        info = mlflow.onnx.log_model(
            onnx.load(onnx_file),
            name="model",
            signature=_signature(shape),
            pip_requirements=["onnxruntime", "onnx", "numpy"],
            registered_model_name=model_name,
        )
        mlflow.log_metrics(dict(metrics))
        mlflow.log_artifacts(str(folder), "exported")
    client = mlflow.MlflowClient()
    version = str(info.registered_model_version)
    client.set_registered_model_alias(model_name, alias, version)
    client.update_model_version(model_name, version, description=description)
    return f"models:/{model_name}@{alias}"


def _signature(shape: tuple[int, int, int]) -> Any:
    """Pixels (batch, C, H, W) float32 in; logits (batch, classes) float32 and MACs (batch,) float64 out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    pixels = TensorSpec(np.dtype("float32"), (-1, *shape), "pixels")
    logits = TensorSpec(np.dtype("float32"), (-1, -1), "logits")
    macs = TensorSpec(np.dtype("float64"), (-1,), "macs")
    return ModelSignature(inputs=Schema([pixels]), outputs=Schema([logits, macs]))
