"""Experiments and runs of MLflow: made, and written to."""

from __future__ import annotations

import getpass
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from storage.mlflow_client import batches, having
from storage.mlflow_moved import follow
from storage.settings import Settings

logger = logging.getLogger(f"dynafront.{__name__}")

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KIND, STUDY, PARETO, PARENT = "automl.kind", "automl.study", "pareto", "mlflow.parentRunId"
PAGE = 1000  # runs that one search returns
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class MlflowRuns:
    """The runs of one MLflow; what it raises comes through unchanged."""

    def __init__(self, client: MlflowClient, settings: Settings) -> None:
        self._client, self._settings = client, settings

    def experiment(self, name: str) -> str:
        """Id of the experiment of this name, made, or brought back where it was deleted.

        Its files are where the settings say, also where its folder was moved or copied.
        """
        from mlflow.exceptions import MlflowException

        known = self._client.get_experiment_by_name(name)
        place = _artifacts(self._settings, name)
        if known is None:
            try:
                return str(self._client.create_experiment(name, place, EXPERIMENT_TAGS))
            except MlflowException as error:
                # another process may have been faster
                logger.debug("experiment %s was not created: %s", name, error)
                known = self._client.get_experiment_by_name(name)
                if known is None:
                    raise
        # its name stays taken, so nothing else could be logged to
        if known.lifecycle_stage == "deleted":
            self._client.restore_experiment(known.experiment_id)
        if place and known.artifact_location != place:
            follow(self._settings, known.experiment_id, known.artifact_location, place)
        return str(known.experiment_id)

    def find(self, experiment_id: str, tags: Mapping[str, str]) -> Run | None:
        """The newest run with these tags; where all of them were deleted, the newest of those, brought back."""
        deleted = None
        for run in self.all_runs(experiment_id, tags):
            if run.info.lifecycle_stage == "active":
                return run
            deleted = deleted or run
        if deleted is not None:
            self._client.restore_run(deleted.info.run_id)
        return deleted

    def all_runs(
        self, experiment_id: str, tags: Mapping[str, str], *, has: str | None = None
    ) -> Iterator[Run]:
        """Every run with these tags, and with the tag that it `has`; the newest first, deleted ones too."""
        from mlflow.entities import ViewType

        query = having(tags) + (f" and tags.`{has}` != ''" if has else "")
        token = None
        while True:
            page = self._client.search_runs(
                [experiment_id], query, ViewType.ALL, PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def create(
        self, experiment_id: str, name: str, tags: dict[str, str], start: int | None = None
    ) -> str:
        """Id of a new run, started now or at `start` (milliseconds since 1970)."""
        origin = {
            "mlflow.user": _user(),
            "mlflow.source.name": "dynafront",
            "mlflow.source.type": "LOCAL",
        }
        run = self._client.create_run(
            experiment_id, start_time=start, tags=origin | tags, run_name=name
        )
        return str(run.info.run_id)

    def log(
        self,
        run_id: str,
        params: Mapping[str, Any],
        metrics: Sequence[Any],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add params, metrics and tags to a run, in as many requests as MLflow's limits ask for."""
        from mlflow.entities import Param, RunTag

        texts = [Param(key, str(value)) for key, value in params.items()]
        for some_params, some_metrics in batches(texts, metrics):
            self._client.log_batch(run_id, params=some_params, metrics=some_metrics)
        if tags:
            self._client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def keep(self, run_id: str, artifacts: Mapping[str, bytes]) -> None:
        """Write artifacts, contents by path, to a run."""
        if not artifacts:
            return
        with tempfile.TemporaryDirectory(prefix="dynafront-") as folder:
            for path, content in artifacts.items():
                file = Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            self._client.log_artifacts(run_id, folder)

    def drop(self, run_id: str, folder: str) -> None:
        """Delete a folder of a run's artifacts, where the store of artifacts can delete."""
        from mlflow.exceptions import MlflowException
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        where = self._client.get_run(run_id).info.artifact_uri
        repository = get_artifact_repository(where, tracking_uri=self._client.tracking_uri)
        with suppress(MlflowException, NotImplementedError, OSError):
            repository.delete_artifacts(folder)


def now() -> int:
    """The time as MLflow counts it: milliseconds since 1970."""
    return int(time.time() * 1000)


def _artifacts(settings: Settings, experiment: str) -> str | None:
    """Where an experiment's files go, independent of the current folder; None leaves it to the server."""
    root, folder = settings.artifact_root, re.sub(r"[^\w.-]+", "-", experiment).strip(".-")
    if root is None:
        return None
    if "://" in root or root.startswith("mlflow-artifacts:"):
        return f"{root.rstrip('/')}/{quote(folder)}"
    return (Path(root).resolve() / folder).as_uri()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
