"""Which of the server's environment the processes get that it starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from storage.mlflow_server import SETTINGS_VARIABLE
from storage.settings import Settings

# how the server is run, and what it signs its forms with
SERVERS_OWN = (
    "MLFLOW_SERVER_",
    "MLFLOW_AUTH_",
    "MLFLOW_FLASK_",
    "DYNAFRONT_SERVER_USERS",
    "_MLFLOW_",
)
STORES = ("AWS_", "GOOGLE_", "AZURE_", "FSSPEC_")  # accounts of stores of checkpoints
SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY")


def job_environment(settings: Settings, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a command: all but what is the server's own, as in the terminal that started the server.

    It logs to MLflow, writes to a store of artifacts and downloads weights: with the accounts that are given for that.
    """
    given = os.environ if given is None else given
    own = {name: value for name, value in given.items() if not name.startswith(SERVERS_OWN)}
    return own | {SETTINGS_VARIABLE: settings.model_dump_json(), "PYTHONUNBUFFERED": "1"}


def reader_environment(
    settings: Settings, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """For what only reads tables, checkpoints and images: without secrets too. Paths may name any other variable.

    The account of a store of checkpoints stays where there is one.
    """
    job, needed = job_environment(settings, given), STORES if settings.store else ()
    return {
        name: value
        for name, value in job.items()
        if name.startswith(needed) or not SECRET.search(name.upper())
    }
