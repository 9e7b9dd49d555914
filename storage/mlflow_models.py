"""Registered models: an exported folder with signature, metrics and alias, that any MLflow user can load and serve."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from storage.mlflow_client import DESCRIPTION_CHARACTERS, absolute, asking, client, fitting
from storage.mlflow_runs import PARENT, MlflowRuns
from storage.settings import Settings
from storage.urls import without_password

REQUIRED = ("onnxruntime", "numpy", "pandas", "pillow")  # what loading a model takes, beside MLflow
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
    folder: Path,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    description: str,
) -> str:
    """Log the model in a run of its own below the study's, register it, set the alias; returns models:/NAME@ALIAS.

    The run also gets the folder's files, so that the rebuildable weights lie beside the ONNX file. Raises StorageError.
    """
    mlflow_client = client(settings)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    run_tags = {PARENT: parent_id, **tags}
    with asking(settings), _addressed(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints and of pip
        run = MlflowRuns(mlflow_client, settings).create(experiment_id, run_name, run_tags)
        with mlflow.start_run(run_id=run, log_system_metrics=False):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={"model": str(folder)},
                signature=_signature(),
                pip_requirements=[f"{name}=={metadata.version(name)}" for name in REQUIRED],
                registered_model_name=model_name,
            )
            mlflow.log_metrics(dict(metrics), model_id=info.model_id)
            mlflow.log_artifacts(str(folder), EXPORTED)
        number = str(info.registered_model_version)
        mlflow_client.set_registered_model_alias(model_name, alias, number)
        shown = fitting(description, DESCRIPTION_CHARACTERS)
        mlflow_client.update_model_version(model_name, number, description=shown)
    return f"models:/{model_name}@{alias}"


def loading_line(settings: Settings, uri: str) -> str:
    """Python that loads the registered model, from whatever folder; passwords are not shown."""
    tracking = without_password(absolute(settings.tracking_uri))
    registry = without_password(absolute(settings.registry_uri))
    other = "" if registry == tracking else f"mlflow.set_registry_uri({registry!r}); "
    return (
        f"import mlflow; mlflow.set_tracking_uri({tracking!r}); {other}"
        f"model = mlflow.pyfunc.load_model({uri!r})"
    )


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


def _signature() -> Any:
    """Images in, in any of the forms that served_model.py takes; a row an image out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array

    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "class"),
        ColSpec(DataType.double, "probability"),
        ColSpec(DataType.double, "macs"),
        ColSpec(Array(DataType.double), "probabilities"),
    ]
    point = ParamSpec("point", DataType.long, 0)
    return ModelSignature(outputs=Schema(columns), params=ParamSchema([point]))
