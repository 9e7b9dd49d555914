"""Launching a study from Python, or going on with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynafront.opening import console_for, settings_of
from dynafront.stored import Study

if TYPE_CHECKING:
    from rich.console import Console

    from search.spec import StudySpec
    from search.study_parts import EngineName
    from storage.settings import Settings

CALL = "search()"  # what messages call keywords, where they name a study file


def search(
    file: Path | str | None = None,
    *,
    workers: int | None = None,
    engine: EngineName | None = None,
    baselines: bool = False,
    finalists: int = 0,
    retry_failed: bool = False,
    settings: Settings | Path | str | None = None,
    show: bool = True,
    **keys: Any,
) -> Study:
    """Run a study until its budget is spent, or go on with it: what `dynafront search` does. Returns the study.

    The study is a study file, or the keys of one as keywords: `search(study="photos", data="folder:photos",
    families=["gated_resnet"], budget={"trials": 24})`. `data` may also be a pair (train, test) of torch Datasets, or of
    (images, labels) in arrays; test may be None. They are written once, as Parquet, into the data folder.

    `workers`, `engine`, `baselines`, `finalists` and `retry_failed` are the flags of the command. `show=False` prints
    nothing. An interrupt loses at most the epoch that is under way; the same call goes on. Raises ValueError for what
    a person can put right, StorageError, and RuntimeError when nothing came of the search.
    """
    from search.engine_keys import on_engine
    from search.inputs import check_inputs

    for name, count in (("workers", workers), ("finalists", finalists)):
        if count is not None and count < 0:
            raise ValueError(f"{CALL}: {name}: {count} is less than 0")
    own, console = settings_of(settings), console_for(show)
    spec, text = _study_of(file, keys, own, console)
    spec = on_engine(spec, engine, workers)
    check_inputs(spec, CALL if file is None else str(file))
    try:
        _run(
            spec,
            text,
            own,
            console,
            workers=spec.run.workers if workers is None else workers,
            baselines=baselines,
            finalists=finalists,
            retry_failed=retry_failed,
        )
    except KeyboardInterrupt:
        console.print("Stopped. Nothing is lost: the same call goes on.")
        raise
    return Study(spec.study, own)


def _study_of(
    file: Path | str | None, keys: dict[str, Any], settings: Settings, console: Console
) -> tuple[StudySpec, str]:
    """The spec and its text. Raises ValueError."""
    from search.commands.study_file import read_begun
    from search.spec import parse_study

    if file is not None:
        if keys:
            raise ValueError(
                f"{CALL}: {', '.join(keys)} and a study file: give the file, or all keys as keywords"
            )
        return read_begun(Path(file).expanduser(), settings, console.print)
    data = keys.get("data", "")
    if isinstance(data, Path):
        keys = {**keys, "data": f"folder:{data}"}
    elif not isinstance(data, str):
        from dynafront.datasets import written

        source = written(data, settings.folder, lambda line: console.print(f"  {line}"))
        keys = {**keys, "data": source}
    text = as_yaml(keys)
    return parse_study(text, CALL), text


def as_yaml(keys: dict[str, Any]) -> str:
    """The text of a study file with these keys. Raises ValueError for a value that it cannot have."""
    import yaml

    for name, value in keys.items():
        try:
            yaml.safe_dump(value)
        except yaml.YAMLError:
            raise ValueError(
                f"{CALL}: {name}: has a {type(value).__name__} that a study file cannot say; give plain numbers, "
                "texts, lists and dicts"
            ) from None
    return yaml.safe_dump(keys, sort_keys=False)


def _run(
    spec: StudySpec,
    text: str,
    settings: Settings,
    console: Console,
    *,
    workers: int,
    baselines: bool,
    finalists: int,
    retry_failed: bool,
) -> None:
    from search.command_line.terminal import steps
    from search.commands.search_text import opening_line, why_ended

    console.print(opening_line(spec))
    steps(console)("loading PyTorch")
    from search.commands.finalists import show
    from search.commands.search import run_study
    from search.commands.train_finalists import train_finalists

    finished = run_study(
        spec,
        text,
        settings,
        console,
        workers=workers,
        baselines=baselines,
        retry_failed=retry_failed,
    )
    if finalists:
        show(console, train_finalists(spec, settings, console, count=finalists, workers=workers))
    for line in why_ended(spec, finished):
        console.print(line)
