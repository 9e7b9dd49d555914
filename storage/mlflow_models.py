"""Registered models: an ONNX file with signature, metrics and alias, that any MLflow user can load and serve."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.mlflow_client import DESCRIPTION_CHARACTERS, absolute, asking, client, fitting
from storage.mlflow_runs import PARENT, MlflowRuns
from storage.settings import Settings

EXPORTED = "exported"  # folder among the artifacts of the model's run
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def log_model(
    settings: Settings,
    *,
    experiment_id: str,
    parent_id: str,
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

    The run also gets the folder's files, so that the rebuildable weights lie beside the ONNX file. Raises StorageError.
    """
    mlflow_client = client(settings)
    import mlflow
    import onnx

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    run_tags = {PARENT: parent_id, **tags}
    with asking(settings), _addressed(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints and of pip
        run = MlflowRuns(mlflow_client, settings).create(experiment_id, run_name, run_tags)
        with mlflow.start_run(run_id=run, log_system_metrics=False):
            info = mlflow.onnx.log_model(
                onnx.load(onnx_file),
                name="model",
                signature=_signature(shape),
                pip_requirements=["onnxruntime", "onnx", "numpy"],
                registered_model_name=model_name,
            )
            mlflow.log_metrics(dict(metrics), model_id=info.model_id)
            mlflow.log_artifacts(str(folder), EXPORTED)
        version = str(info.registered_model_version)
        mlflow_client.set_registered_model_alias(model_name, alias, version)
        shown = fitting(description, DESCRIPTION_CHARACTERS)
        mlflow_client.update_model_version(model_name, version, description=shown)
    return f"models:/{model_name}@{alias}"


def fetch_exported(settings: Settings, uri: str, target: Path) -> Path:
    """The exported folder of a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`, copied into `target`.

    Raises ValueError for another address and for a model that `export --register` did not make, StorageError.
    """
    name, version, alias = _parts(uri)
    mlflow_client = client(settings)
    with asking(settings):
        found = (
            mlflow_client.get_model_version_by_alias(name, alias)
            if alias
            else mlflow_client.get_model_version(name, version)
        )
        run = str(found.run_id)
        if not any(f.path == EXPORTED for f in mlflow_client.list_artifacts(run)):
            raise ValueError(
                f"{uri}: is no model of `dynafront export --register`; give its folder"
            )
        return Path(mlflow_client.download_artifacts(run, EXPORTED, str(target)))


def _parts(uri: str) -> tuple[str, str, str]:
    """Name, and version or alias, of a registered model."""
    if found := re.fullmatch(r"models:/+([^@]+)@(.+)", uri):
        return found[1], "", found[2]
    if found := re.fullmatch(r"models:/+(.+)/(\d+)", uri):
        return found[1], found[2], ""
    raise ValueError(f"{uri}: write models:/NAME@ALIAS or models:/NAME/VERSION")


@contextmanager
def _addressed(settings: Settings) -> Iterator[None]:
    """MLflow's functions go to the settings' stores meanwhile; the process's own addresses come back afterwards.

    MLflow writes addresses into the environment, where the next settings that are read would find them.
    """
    import mlflow

    tracking, registry = (os.environ.get(name) for name in ADDRESSES)
    mlflow.set_tracking_uri(absolute(settings.tracking_uri))
    mlflow.set_registry_uri(absolute(settings.registry_uri))
    try:
        yield
    finally:
        # None takes an address back, although MLflow's type hints do not say so
        mlflow.set_tracking_uri(tracking)  # type: ignore[arg-type]
        mlflow.set_registry_uri(registry)  # type: ignore[arg-type]
        if registry is None:
            os.environ.pop("MLFLOW_REGISTRY_URI", None)


def _signature(shape: tuple[int, int, int]) -> Any:
    """Pixels (batch, C, H, W) float32 in; logits (batch, classes) float32 and MACs (batch,) float64 out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    pixels = TensorSpec(np.dtype("float32"), (-1, *shape), "pixels")
    logits = TensorSpec(np.dtype("float32"), (-1, -1), "logits")
    macs = TensorSpec(np.dtype("float64"), (-1,), "macs")
    return ModelSignature(inputs=Schema([pixels]), outputs=Schema([logits, macs]))
