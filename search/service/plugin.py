"""The MLflow server with our pages: what `mlflow server --app-name dynafront` runs.

All that uses names which MLflow does not promise to keep is here. A Flask blueprint, for every server that MLflow can
run under serves it, and so MLflow's own checks of hosts, origins and users come before it.
"""

from __future__ import annotations

import os
from typing import Any

from search.service.access import API, LARGEST, keep_on_this_machine, with_users
from search.service.limits import LimitedBodies
from search.service.routes import blueprint
from storage.mlflow_server import SETTINGS_VARIABLE
from storage.server_users import USERS_VARIABLE
from storage.settings import Settings, settings
from storage.store import Store


def create_app() -> Any:
    """The application that the server runs. Called once in each of its processes."""
    from mlflow.environment_variables import _MLFLOW_SGI_NAME
    from mlflow.server import app
    from mlflow.server.handlers import _add_static_prefix

    given = os.environ.get(SETTINGS_VARIABLE)
    own = Settings.model_validate_json(given) if given else settings()
    routes = blueprint(Store.open(own.database_url), own)
    users = bool(os.environ.get(USERS_VARIABLE))
    if not users:
        keep_on_this_machine(routes)
    app.register_blueprint(routes, url_prefix=_prefix(_add_static_prefix("")))
    under_uvicorn = _MLFLOW_SGI_NAME.get() == "uvicorn"
    if users:
        whole = with_users(app)
    elif under_uvicorn:
        from mlflow.server.fastapi_app import create_fastapi_app

        whole = create_fastapi_app(app)
    else:
        whole = app
    if under_uvicorn:
        whole.add_middleware(LimitedBodies, prefix=_add_static_prefix(API), largest=LARGEST)
    return whole


def _prefix(path: str) -> str | None:
    return path.rstrip("/") or None
