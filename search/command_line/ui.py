"""dynafront ui: the front in the MLflow UI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.command_line.opening import open_store, open_study, read_settings
from search.command_line.terminal import terminal

if TYPE_CHECKING:
    from storage.settings import Settings


@click.command()
@click.argument("name", required=False)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Where the UI listens. Overrides server.port."
)
@click.option(
    "--browser/--no-browser",
    default=None,
    help="Open the front in the browser, or only print its address.  [default: open it where the output is a terminal "
    "and there is a display]",
)
@click.pass_obj
def ui(config: Path | None, name: str | None, port: int | None, browser: bool | None) -> None:
    """Start the MLflow UI and open the front.

    It runs on this machine until Ctrl-C. Where the settings name an MLflow server, nothing is started.
    """
    from search.commands.ui import has_display, open_ui

    settings = _at_port(read_settings(config), port)
    studies = [open_study(settings, name)[1]] if name else open_store(settings).studies()
    wanted = has_display() if browser is None else browser
    open_ui(settings, studies, terminal(), browser=wanted)


def _at_port(settings: Settings, port: int | None) -> Settings:
    if port is None:
        return settings
    if settings.remote:
        raise ValueError(
            f"--port {port}: the UI runs at {settings.tracking_uri}, as tracking_uri says; leave out the flag"
        )
    server = settings.server.model_copy(update={"port": port})
    return settings.model_copy(update={"server": server})
