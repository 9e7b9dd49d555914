"""The process of `dynafront ui` and `dynafront serve`: our pages at once, MLflow's as soon as it is loaded.

MLflow takes seconds to import and 200 MB; `mlflow server` does it twice. With users its accounts are needed for every
address, so that all of it waits.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, cast

from search.service.access import keep_on_this_machine
from search.service.gate import Gate
from search.service.page_files import PAGES
from search.service.routes import blueprint
from search.service.shared import share
from storage.mlflow_server import SETTINGS_VARIABLE
from storage.server_users import USERS_VARIABLE
from storage.settings import Settings
from storage.store import Store

THREADS = 10  # requests to our addresses that are answered at once


def main() -> int:
    """Serve until a signal. The settings stand in the environment, which others on the machine cannot read."""
    import uvicorn

    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    settings = Settings.model_validate_json(os.environ[SETTINGS_VARIABLE])
    failed: list[BaseException] = []

    def give_up(error: BaseException) -> None:
        failed.append(error)
        said = " ".join(str(error).split()) or type(error).__name__
        logging.getLogger("uvicorn.error").error("MLflow cannot start: %s", said)
        server.should_exit = True

    app = with_users(settings) if os.environ.get(USERS_VARIABLE) else alone(settings, give_up)
    server = uvicorn.Server(
        uvicorn.Config(app, host=given.host, port=given.port, log_level="warning")
    )
    server.run()
    return 1 if failed else 0


def alone(settings: Settings, give_up: Callable[[BaseException], None]) -> Gate:
    """Everything, for one machine: ours from a small application of its own, MLflow's once it is there."""
    from a2wsgi import WSGIMiddleware
    from flask import Flask

    routes = blueprint(Store.open(settings.database_url), settings)
    keep_on_this_machine(routes)
    share(routes)
    own = Flask("dynafront", static_folder=None)
    own.register_blueprint(routes)

    def load() -> Any:
        from search.service.plugin import mlflow_app

        return mlflow_app(settings)

    return Gate(WSGIMiddleware(cast(Any, own), workers=THREADS), PAGES, load, give_up)


def with_users(settings: Settings) -> Any:
    """Everything behind MLflow's accounts."""
    from search.service.plugin import app_with_users

    return app_with_users(settings)


if __name__ == "__main__":
    sys.exit(main())
