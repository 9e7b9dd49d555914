"""MLflow's application, with our routes or beside them: for our server, and for `mlflow server --app-name dynafront`.

All that uses names which MLflow does not promise to keep is here and in `access`. Our routes are a Flask blueprint:
every server that MLflow can run under serves it, and MLflow's own checks of hosts, origins and users come before it.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any
from uuid import uuid4

from search.service.access import API, LARGEST, keep_on_this_machine, sender, with_users
from search.service.account_check import AccountCheck, is_open
from search.service.limits import LimitedBodies
from search.service.logins import LimitedLogins, Logins
from search.service.routes import blueprint
from search.service.shared import share
from storage.creation_lock import creating
from storage.mlflow_server import SETTINGS_VARIABLE
from storage.server_users import USERS_VARIABLE
from storage.settings import Settings, settings
from storage.store import Store

ARTIFACTS = "mlflow-artifacts:/"  # where clients are told to log files: through the server


def create_app() -> Any:
    """What `mlflow server --app-name dynafront` runs, once in each of its processes."""
    from mlflow.server.handlers import _add_static_prefix

    given = os.environ.get(SETTINGS_VARIABLE)
    own = Settings.model_validate_json(given) if given else settings()
    routes = blueprint(Store.open(own.database_url), own)
    if not os.environ.get(USERS_VARIABLE):
        keep_on_this_machine(routes)
    return _whole(routes, _add_static_prefix(""))


def mlflow_app(own: Settings) -> Any:
    """MLflow's application alone, as `mlflow server` makes it; its tables are there afterwards."""
    _prepare(own)
    from mlflow.server import app
    from mlflow.server.fastapi_app import create_fastapi_app

    return create_fastapi_app(app)


def app_with_users(own: Settings) -> Any:
    """MLflow's application with our routes, which asks everyone for an account."""
    _prepare(own)
    routes = blueprint(Store.open(own.database_url), own)
    share(routes)
    return _whole(routes, "")


def _whole(routes: Any, prefix: str) -> Any:
    """MLflow's application with our routes in it."""
    from mlflow.environment_variables import _MLFLOW_SGI_NAME
    from mlflow.server import app

    app.register_blueprint(routes, url_prefix=prefix.rstrip("/") or None)
    under_uvicorn = _MLFLOW_SGI_NAME.get() == "uvicorn"
    if os.environ.get(USERS_VARIABLE):
        whole = with_users(app)
    elif under_uvicorn:
        from mlflow.server.fastapi_app import create_fastapi_app

        whole = create_fastapi_app(app)
    else:
        whole = app
    if under_uvicorn:
        whole.add_middleware(LimitedBodies, prefix=f"{prefix.rstrip('/')}{API}", largest=LARGEST)
        if os.environ.get(USERS_VARIABLE):
            whole.add_middleware(AccountCheck, who=partial(sender, app))
            whole.add_middleware(LimitedLogins, is_open=is_open, logins=Logins())
    return whole


def _prepare(own: Settings) -> None:
    """What `mlflow server` does before it starts a process that serves: say where everything is, make the tables."""
    os.environ |= {"_MLFLOW_SGI_NAME": "uvicorn", "_MLFLOW_SERVER_BOOT_ID": uuid4().hex}
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: own.tracking_uri,
        constants.REGISTRY_STORE_URI_ENV_VAR: own.registry_uri,
        constants.ARTIFACT_ROOT_ENV_VAR: ARTIFACTS,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    if own.artifact_root is not None:
        os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = own.artifact_root
    # a search that starts now must not create the same tables
    with creating(own.tracking_uri):
        initialize_backend_stores(own.tracking_uri, own.registry_uri, ARTIFACTS)
