"""The flag that commands which train share: where trials run."""

from __future__ import annotations

import click

engine_option = click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    help="Where trials run: in processes of this machine, or on a Ray cluster. Overrides run.engine.",
)
