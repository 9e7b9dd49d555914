"""The command line. Commands parse, call and print; what is slow to import is imported inside them."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from storage.records import PointRecord, StudyRecord
    from storage.settings import Settings
    from storage.store import Store


class _Commands(click.Group):
    """Turns what a person can put right into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            raise click.exceptions.UsageError(_one_line(error)) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("storage", "search"):
                click.echo(f"Error: {_one_line(error)}", err=True)
                raise click.exceptions.Exit(1) from None
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="dynafront")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file; without it ./mlflow.yml, and where there is none, everything goes to ./dynafront-data.",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Search dynamic neural networks, browse the accuracy/compute front, export the point you pick.

    \b
    dynafront search studies/digits.yml      launch; the same command goes on after an interruption
    dynafront front digits                   the front as a table
    dynafront ui digits                      the front in the MLflow UI
    dynafront export digits --pick knee      the model, ready to ship
    dynafront predict exported/ image.png    try it
    """
    ctx.obj = config


@main.command()
@click.argument("study_file", type=click.Path(path_type=Path))
@click.option(
    "--ladder",
    is_flag=True,
    help="Also train the baselines of the same sizes, as a reference in the front.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Trials at once, each in a process of its own (0: one, in this process). Overrides run.workers.",
)
@click.option(
    "--finalists",
    type=click.IntRange(0),
    default=0,
    help="After the budget is spent, train the N most valuable trainings of the front again, each from 3 new seeds and "
    "for twice the epochs: shows how much of the front was luck. 6 trials' worth of training each; resumable.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Train the trials that failed again, with their numbers and seeds, once what failed them is put right.",
)
@click.pass_obj
def search(
    config: Path | None,
    study_file: Path,
    ladder: bool,
    workers: int | None,
    finalists: int,
    retry_failed: bool,
) -> None:
    """Launch the study that STUDY_FILE describes, or go on with it.

    Ctrl-C stops it; the same command resumes, losing at most the epoch that was under way. `trials` in the file is the
    total, so a larger number extends a finished study. See studies/ for files to start from.
    """
    from search.inputs import check_inputs
    from search.spec import read_study

    spec, text = read_study(study_file)
    check_inputs(spec, str(study_file))
    settings = _settings(config)
    from search.commands.search import search as launch
    from search.schedule.warm_start import epochs_of

    console = _console()
    workers = spec.run.workers if workers is None else workers
    epochs = spec.budget.epochs
    trained = sorted({epochs_of(spec, name) for name in spec.families})
    console.print(
        f"{spec.study}: {spec.budget.trials} trials of {' or '.join(map(str, trained))} epochs over "
        f"{', '.join(spec.families)} on {spec.data}"
        + (f", from baselines that are trained once for {epochs}" if trained[0] < epochs else ""),
    )
    # a scheduler's stop is as gentle as Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        finished = launch(
            spec,
            text,
            settings,
            console,
            workers=workers,
            ladder=ladder,
            retry_failed=retry_failed,
        )
        if finalists:
            from search.commands.finalists import search_finalists

            retrained = search_finalists(spec, settings, console, count=finalists, workers=workers)
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. Nothing is lost: dynafront search {study_file} goes on.", highlight=False
        )
        raise
    store, record = _study(settings, spec.study)
    _print_front(console, store, record)
    console.print()
    if finalists:
        from search.commands.finalists import show

        show(console, retrained)
        console.print()
    if finished.plateau and spec.budget.plateau:
        wait = spec.budget.plateau
        console.print(
            f"The front has not grown by {wait.growth:.2%} over the last {wait.trials} trials: the search has ended. "
            "Take budget.plateau out, or raise it, to go on.",
            highlight=False,
        )
    elif not finished.complete:
        console.print(
            f"The budget of {spec.budget.hours} hours is spent with trials left; raise budget.hours to go on.",
            highlight=False,
        )
    for command, what in (
        (f"dynafront ui {spec.study}", "browse the front in the MLflow UI"),
        (f"dynafront front {spec.study} --plot front.html", "the front as an interactive page"),
        (
            f"dynafront export {spec.study} --pick knee",
            "the model at the front's knee, ready to ship",
        ),
    ):
        console.print(f"  {command:<50} {what}")


@main.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def status(config: Path | None, name: str | None, as_json: bool) -> None:
    """How far studies are: trials by state, time spent, front, what failed and why."""
    from search.commands.status import as_text, statuses

    store = _open(_settings(config))
    found = statuses(store, name)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("No study yet. Launch one: dynafront search studies/digits.yml")
    for one in found:
        click.echo(as_text(one))


@main.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def finalists(config: Path | None, name: str, as_json: bool) -> None:
    """What study NAME's finalists show: how much of the front was luck.

    `dynafront search FILE --finalists N` trains them. At the cost of each of their points on the front: the accuracy
    that the search saw, the mean over the new seeds with its 95 % t-interval, and whether another finalist is
    significantly better (Welch's t-test, one-sided, p < 0.05, not corrected for the number of pairs). All of it is on
    the validation images that the search chose on; the test images are left for export.
    """
    from search.commands.finalists import report, show

    found = report(*_study(_settings(config), name))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(_console(), found)


@main.command()
@click.argument("name")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="For people, spreadsheets, programs.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a picture: FILE.html or FILE.png.",
)
@click.option("--family", help="The front of this family's networks alone.")
@click.pass_obj
def front(config: Path | None, name: str, form: str, plot: Path | None, family: str | None) -> None:
    """The points of study NAME that no other beats in accuracy and compute.

    Accuracy is validation top-1 with its 95 % interval; MACs are per image, over real images.
    """
    from search.front.formats import as_csv
    from search.front.formats import as_json as front_json

    if plot and plot.suffix not in (".html", ".png"):
        raise ValueError(f"--plot {plot}: give a name that ends in .html or .png")
    store, record = _study(_settings(config), name)
    if plot:
        _write_plot(store, record, plot, family)
    points, _, _, volume = _front(store, record, family)
    if form == "json":
        click.echo(json.dumps(front_json(name, points, volume), indent=2))
    elif form == "csv":
        click.echo(as_csv(points), nl=False)
    else:
        _print_front(_console(), store, record, family)
    if plot:
        click.echo(f"Wrote {plot}", err=True)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("family", required=False)
def spaces(as_json: bool, family: str | None) -> None:
    """What can be searched: every family, dimension, range, default and condition.

    A study file can fix (`target: 0.5`) or narrow (`backbone: [resnet8, resnet14]`, `target: {low: 0.3, high: 0.8}`)
    any dimension. Those that are not searched by default keep their default until a study file names them.
    """
    from search.commands.spaces import as_dict, print_table

    if as_json:
        click.echo(json.dumps(as_dict(family), indent=2))
    else:
        print_table(_console(), family)


@main.command()
@click.argument("name", required=False)
@click.pass_obj
def ui(config: Path | None, name: str | None) -> None:
    """Start the MLflow UI on this machine and print the address of the study's front. Ctrl-C stops it."""
    from storage.mlflow_server import serve

    settings = _settings(config)
    store = _open(settings)
    studies = [_study(settings, name)[1]] if name else store.studies()

    def ready(address: str) -> None:
        from storage.saved_views import view_path

        click.echo(f"MLflow UI: {address}")
        for study in studies:
            if study.experiment_id:
                click.echo(f"  {study.name}: {address.rstrip('/')}{view_path(study.experiment_id)}")
        if not studies:
            click.echo("  no study yet; launch one: dynafront search studies/digits.yml")

    serve(settings, ready)


@main.command()
@click.argument("name")
@click.option(
    "--pick", type=click.Choice(["knee", "best", "fastest"]), help="Which point of the front."
)
@click.option(
    "--max-macs", help="The most accurate point of at most this many MACs an image, such as 10M."
)
@click.option(
    "--min-accuracy",
    type=float,
    help="The cheapest point of at least this validation accuracy, such as 0.97.",
)
@click.option("--family", help="A point of this family's own front.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("exported"),
    show_default=True,
    help="Folder.",
)
@click.option("--register", is_flag=True, help="Also register the model in MLflow, alias by pick.")
@click.pass_obj
def export(
    config: Path | None,
    name: str,
    pick: str | None,
    max_macs: str | None,
    min_accuracy: float | None,
    family: str | None,
    out: Path,
    register: bool,
) -> None:
    """Turn a point of study NAME's front into a model that runs anywhere.

    Writes model.safetensors, model.json, model.onnx and a model card into the folder. Gates that never vary are cut
    out, batch norm is folded in, accuracy and compute are measured on the test split, and every answer is compared
    with the trained network's. Without a choice, the knee of the front.
    """
    from search.commands.export import Choice, export_choice

    choice = Choice(pick=pick, max_macs=max_macs, min_accuracy=min_accuracy, family=family)
    settings = _settings(config)
    store, record = _study(settings, name)
    console = _console()
    done = export_choice(
        store,
        record,
        settings,
        choice,
        out,
        register=register,
        say=lambda line: console.print(f"  {line}", style="dim"),
    )
    for line in done:
        console.print(line, highlight=False)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def predict(folder: Path, images: tuple[Path, ...], as_json: bool) -> None:
    """Classify IMAGES with the exported model in FOLDER: class, probability, MACs that each took."""
    from search.export.model import load_exported
    from search.objectives import macs_text

    model = load_exported(folder)
    rows = []
    for image in images:
        label, probability, macs = model.predict(image)
        rows.append({"image": str(image), "class": label, "probability": probability, "macs": macs})
        if not as_json:
            click.echo(f"{image}: {label} ({probability:.1%}, {macs_text(macs)}MACs)")
    if as_json:
        click.echo(json.dumps(rows, indent=2))


@main.command()
@click.argument("name")
@click.option(
    "--trial", type=click.IntRange(0), help="This trial, at the point that represents it."
)
@click.option(
    "--pick",
    type=click.Choice(["knee", "best", "fastest"]),
    help="A point of the front; without a choice, the knee.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("inspected"),
    show_default=True,
    help="Folder.",
)
@click.pass_obj
def inspect(config: Path | None, name: str, trial: int | None, pick: str | None, out: Path) -> None:
    """Show what a trained network of study NAME does with validation images, and where its compute goes.

    Writes pictures and one interactive page: easiest and hardest images, gates by class, skip patterns, use of exits
    and where they look, mixing of layers, layers at other places, as far as the network has them. NAME can also be
    the folder of an exported model.
    """
    from search.commands.inspect import chosen_point, exported_point, inspect_point
    from storage.records import Kind

    settings, knobs = _settings(config), None
    training = None if trial is None else (Kind.SEARCH, trial)
    if (Path(name) / "model.json").is_file():
        name, training, knobs = exported_point(Path(name))
    store, record = _study(settings, name)
    point = chosen_point(store, record, training=training, pick=pick, knobs=knobs)
    console = _console()
    done = inspect_point(
        store, record, settings, point, out, say=lambda line: console.print(f"  {line}", style="dim")
    )  # fmt: skip
    for line in done:
        console.print(line, highlight=False, soft_wrap=True)


@main.command()
@click.argument("name", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Log everything again, not only what is missing."
)
@click.pass_obj
def sync(config: Path | None, name: str | None, everything: bool) -> None:
    """Bring MLflow up to date from the study's own tables, after it was away or when it is new."""
    from search.run.publish import synced

    settings = _settings(config)
    store = _open(settings)
    records = [_study(settings, name)[1]] if name else store.studies()
    for record in records:
        count = synced(store, settings, record, everything=everything)
        click.echo(
            f"{record.name}: {count} trial{'s' * (count != 1)} brought to MLflow, front drawn"
        )


def _settings(config: Path | None) -> Settings:
    # before mlflow or optuna is imported anywhere: nothing of a user's machine is sent anywhere
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from storage.settings import settings

    return settings(config)


def _open(settings: Settings) -> Store:
    from storage.store import Store

    settings.folder.mkdir(parents=True, exist_ok=True)
    return Store.open(settings.database_url)


def _study(settings: Settings, name: str) -> tuple[Store, StudyRecord]:
    """The store and a study by name. Raises ValueError naming the known ones."""
    from spaces.contract.space import nearest

    store = _open(settings)
    record = store.find_study(name)
    if record is None:
        known = [study.name for study in store.studies()]
        hint = nearest(name, known) if known else "; launch one with dynafront search FILE"
        raise ValueError(f"there is no study {name} in {settings.folder}{hint}")
    return store, record


def _front(
    store: Store, record: StudyRecord, family: str | None = None
) -> tuple[list[PointRecord], list[PointRecord], list[PointRecord], float]:
    """The front, all standing points, the baselines, the hypervolume."""
    from search.front.stored import study_front

    return study_front(store, record, family)


def _print_front(
    console: Console, store: Store, record: StudyRecord, family: str | None = None
) -> None:
    from search.front.stored import study_cost, study_majority
    from search.report.front_text import majority_text, summary
    from search.run.progress import front_table_view

    points, _, static, volume = _front(store, record, family)
    if not points:
        from search.report.no_front import no_front_text

        console.print(no_front_text(store, record, family), soft_wrap=True)
        return
    console.print(
        f"{summary(record.name, points, static, cost=study_cost(record))}; hypervolume {volume:.4f}",
        highlight=False,
    )
    if majority := study_majority(store, record):
        console.print(majority_text(majority))
    console.print(front_table_view(points))
    if static:
        warm = record.spec.get("warm_start") and not record.spec.get("init_from")
        what = (
            "that trials start from, and of other sizes"
            if warm
            else "of the same recipe and budget"
        )
        console.print(f"baselines {what}:", highlight=False)
        console.print(front_table_view(sorted(static, key=lambda p: p.macs_mean)))


def _write_plot(store: Store, record: StudyRecord, plot: Path, family: str | None = None) -> None:
    from search.front.stored import study_cost, study_majority
    from search.report.front_page import front_html
    from search.report.front_plot import front_png

    members, points, static, volume = _front(store, record, family)
    shown: dict[str, Any] = {
        "front": members,
        "static": static,
        "hypervolume": volume,
        "cost": study_cost(record),
        "majority": study_majority(store, record),
    }
    if plot.suffix == ".png":
        plot.write_bytes(front_png(record.name, points, **shown))
    else:
        plot.write_text(front_html(record.name, points, **shown), encoding="utf-8")


def _console() -> Console:
    from rich.console import Console

    # a pipe has no width of its own; tables would be cut at 80. Names and messages are shown as they are, brackets too
    width = None if sys.stdout.isatty() else 140
    return Console(width=width, markup=False, emoji=False, highlight=False)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
