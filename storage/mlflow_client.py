"""The way to MLflow: its client, made quiet and impatient, its errors in one line, its limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storage.creation_lock import creating
from storage.errors import StorageError
from storage.settings import Settings
from storage.urls import SQLITE, sqlite_file, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own 7 block for minutes while a server is away
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
# what a person set for programs of their own; our calls would end in their runs, or fail
DIVERTING = (
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_CONTEXT",
    "MLFLOW_ACTIVE_MODEL_ID",
    "_MLFLOW_ACTIVE_MODEL_ID",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING",
    "MLFLOW_ENABLE_ASYNC_LOGGING",
)
# MLflow takes 1,000 entities a request, 100 params among them
PARAMS_A_BATCH, METRICS_A_BATCH = 100, 900
NOTE_CHARACTERS = 7900  # a run's tag holds 8,000
DESCRIPTION_CHARACTERS = 4900  # of a model's version, which holds 5,000
SHOWN_CHARACTERS = 300  # of an error


def client(settings: Settings) -> MlflowClient:
    """A client for the settings' store; a database that does not exist yet is created. Takes seconds the first time."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    with creating(settings.tracking_uri), asking(settings):
        made = MlflowClient(absolute(settings.tracking_uri), absolute(settings.registry_uri))
        made.search_experiments(max_results=1)
    return made


def absolute(uri: str) -> str:
    """The address from whatever folder: MLflow keeps a store open by its address as long as the process lives."""
    file = sqlite_file(uri)
    return uri if file is None or "?" in uri else f"{SQLITE}{file.resolve()}"


@contextmanager
def asking(settings: Settings) -> Iterator[None]:
    """Turn whatever MLflow raises inside into a StorageError of one line; its calls go where we say."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _undiverted():
            yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise StorageError(
            f"MLflow at {without_password(settings.tracking_uri)}: {_line(error)}"
        ) from error


@contextmanager
def _undiverted() -> Iterator[None]:
    aside = {name: os.environ.pop(name) for name in DIVERTING if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(aside)


def _line(error: Exception) -> str:
    said = str(error).strip() or type(error).__name__
    if "Max retries exceeded" in said:
        return "no answer; start the server, or correct tracking_uri in mlflow.yml"
    return without_password(said.splitlines()[0])[:SHOWN_CHARACTERS]


def batches(
    params: Sequence[Param], metrics: Sequence[Metric]
) -> Iterator[tuple[Sequence[Param], Sequence[Metric]]]:
    """Params and metrics in as few requests as MLflow's limits allow."""
    while params or metrics:
        yield params[:PARAMS_A_BATCH], metrics[:METRICS_A_BATCH]
        params, metrics = params[PARAMS_A_BATCH:], metrics[METRICS_A_BATCH:]


def having(tags: Mapping[str, str]) -> str:
    """The filter for runs that carry all these tags."""
    return " and ".join(f"tags.`{name}` = {_quoted(value)}" for name, value in tags.items())


def _quoted(value: str) -> str:
    # the filter language has no escapes, only two kinds of quotes
    return f'"{value}"' if "'" in value else f"'{value}'"


def fitting(note: str, characters: int = NOTE_CHARACTERS) -> str:
    """The Markdown, cut at the end of a line to what a run's note can hold, or to so many characters."""
    if len(note) <= characters:
        return note
    return note[:characters].rpartition("\n")[0] + "\n\n(shortened; the artifacts hold everything)"
