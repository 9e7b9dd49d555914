"""dynafront clean: checkpoints that nothing needs any more."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import kept_files, open_store, open_study, read_settings
from search.command_line.terminal import as_json, print_json


@click.command("clean")
@click.argument("name", required=False)
@click.option("--dry-run", "dry", is_flag=True, help="Only say what can go.")
@as_json
@click.pass_obj
def clean_studies(config: Path | None, name: str | None, dry: bool, as_json: bool) -> None:
    """Delete checkpoints that nothing can need any more, of all studies or of NAME, and features.

    They are those of complete trials off the front, and of finalists, where the study is finished. Those on the front
    of the study or of a family, of exported models, of baselines, and of stopped or failed trials stay. What goes can
    no longer be inspected; points, curves and pictures stay. Without NAME, features of frozen trunks go too, unless
    a study is being searched: they are computed again when they are needed.
    """
    from search.commands.clean import clean, clean_features, cleanings, feature_line, lines

    settings = read_settings(config)
    store = open_study(settings, name)[0] if name else open_store(settings)
    files = kept_files(settings)
    found = cleanings(store, files, name)
    kept = None if name else feature_line(store, settings, dry=dry)
    if as_json:
        print_json([one.as_dict() for one in found])
    else:
        for line in [*lines(found, dry=dry), *filter(None, [kept])]:
            click.echo(line)
    if not dry:
        for one in found:
            clean(store, one, files)
        if kept:
            clean_features(store, settings)
