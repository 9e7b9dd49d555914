"""dynafront schema: what editors complete and check study files with."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.paths import OutFile


@click.command("schema")
@click.option("--out", type=OutFile(), help="Write it to this file instead.")
def show_schema(out: Path | None) -> None:
    """Print the JSON Schema of study files.

    Editors with a YAML language server complete and check the keys, families and dimensions of a study file that begins
    with `# yaml-language-server: $schema=schema.json`.
    """
    from search.commands.schema import as_text

    if out is None:
        click.echo(as_text(), nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(as_text(), encoding="utf-8")
    click.echo(f"Wrote {out}", err=True)
