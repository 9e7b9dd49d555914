"""dynafront serve: the pages and the MLflow UI for a team, with users."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import open_store, read_settings
from search.command_line.paths import GivenPath
from search.command_line.terminal import terminal


@click.command()
@click.option("--host", help="The address to listen at. Overrides server.host.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The port to listen at. Overrides server.port."
)
@click.option(
    "--allowed-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name that it is reached by, again for more. Overrides server.allowed_hosts.",
)
@click.option(
    "--password-file",
    type=GivenPath(dir_okay=False),
    help="A file with the admin's password, which nobody else can read (mode 600).",
)
@click.pass_obj
def serve(
    config: Path | None,
    host: str | None,
    port: int | None,
    names: tuple[str, ...],
    password_file: Path | None,
) -> None:
    """Serve studies to a team: everyone signs in, users read, admins change.

    The first start needs a password for the account `admin`: in MLFLOW_AUTH_ADMIN_PASSWORD or in a file. Others get
    theirs from `dynafront account`. It runs until Ctrl-C. One person on one machine needs no users: dynafront ui.
    """
    from search.commands.serve import serve_team, with_server

    settings = with_server(read_settings(config), host=host, port=port, names=names)
    open_store(settings).close()
    serve_team(settings, password_file, terminal())
