"""The pages and the MLflow UI for a team: everyone signs in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from search.commands.ui import PAGES
from search.run.heartbeat import Steps
from storage.config_errors import complaint
from storage.mlflow_server import log_file, on_this_machine, serve
from storage.server_users import users_environment
from storage.settings import Server, Settings
from storage.urls import without_user

LOOPBACK = ("localhost", "127.0.0.1")
UNENCRYPTED = (
    "passwords cross the network unencrypted, unless a proxy with TLS stands before this server"
)


def with_server(
    settings: Settings, *, host: str | None, port: int | None, names: Sequence[str]
) -> Settings:
    """The settings with what was given; this machine's own names go with those given. Raises ValueError."""
    given = {"host": host, "port": port, "allowed_hosts": names and (*names, *LOOPBACK)}
    content = settings.server.model_dump() | {key: value for key, value in given.items() if value}
    try:
        return settings.model_copy(update={"server": Server.model_validate(content)})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(complaint(first, content, Server, "dynafront serve")) from None


def serve_team(settings: Settings, password_file: Path | None, console: Console) -> None:
    """Run the server with users until Ctrl-C. Raises ValueError where there is no safe way to start it."""
    if settings.remote:
        raise ValueError(
            f"tracking_uri: {without_user(settings.tracking_uri)} is a server that runs already; "
            "`dynafront serve` runs one of its own, on a database: leave tracking_uri out"
        )
    users = users_environment(settings, password_file)
    until_ready = ExitStack()

    def starting(address: str) -> None:
        console.print(f"dynafront: {address}{PAGES}", soft_wrap=True)
        console.print(f"  MLflow UI: {address}", soft_wrap=True)
        console.print(
            f"  new accounts: {address}/signup, or dynafront account add NAME", soft_wrap=True
        )
        if not on_this_machine(settings.server.host):
            console.print(f"  {UNENCRYPTED}", soft_wrap=True)
        step = until_ready.enter_context(Steps(console))
        step(f"waiting for the server to start (its log: {log_file(settings)})")

    def ready(_: str) -> None:
        until_ready.close()
        console.print("  ready; Ctrl-C stops it")

    with until_ready:
        serve(settings, ready, starting, users)
