"""Registered models: an ONNX file with signature, metrics and alias, that any MLflow user can load and serve."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.settings import Settings

ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


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

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    run_tags = {"mlflow.parentRunId": parent_id, **tags}
    with (
        _addressed(settings),
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
    client = mlflow.MlflowClient(settings.tracking_uri, settings.registry_uri)
    version = str(info.registered_model_version)
    client.set_registered_model_alias(model_name, alias, version)
    client.update_model_version(model_name, version, description=description)
    return f"models:/{model_name}@{alias}"


@contextmanager
def _addressed(settings: Settings) -> Iterator[None]:
    """MLflow's functions go to the settings' stores meanwhile; the process's own addresses come back afterwards.

    MLflow writes addresses into the environment, where the next settings that are read would find them.
    """
    import mlflow

    tracking, registry = (os.environ.get(name) for name in ADDRESSES)
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_registry_uri(settings.registry_uri)
    try:
        yield
    finally:
        # None takes an address back, although MLflow's type hints do not say so
        mlflow.set_tracking_uri(tracking)  # type: ignore[arg-type]
        mlflow.set_registry_uri(registry)  # type: ignore[arg-type]
        if registry is None:
            os.environ.pop("MLFLOW_REGISTRY_URI", None)


def _signature(shape: tuple[int, int, int]) -> Any:
    """Pixels (batch, C, H, W) float32 in, logits (batch, classes) float32 out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    pixels = TensorSpec(np.dtype("float32"), (-1, *shape), "pixels")
    logits = TensorSpec(np.dtype("float32"), (-1, -1), "logits")
    return ModelSignature(inputs=Schema([pixels]), outputs=Schema([logits]))
