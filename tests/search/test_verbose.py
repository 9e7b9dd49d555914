"""-v: nothing is printed without it, what happens with it, and where an unexpected error came from."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from search.cli import main
from search.logs import show_logs, verbosity
from search.run.job import Failure, Job
from search.run.local_processes import LocalProcesses
from storage.errors import StorageError
from trainers.data.splits import DataSpec


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    yield
    show_logs(0)


def dynafront(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def in_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_settings(config: Path | None) -> None:
        raise error

    monkeypatch.setattr("search.command_line.status.read_settings", read_settings)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("status",), 0),
        (("-v", "status"), 1),
        (("status", "-v"), 1),
        (("-v", "status", "--verbose"), 2),
        (("status", "-vvv"), 2),
    ],
)
def test_flags_before_and_behind_a_command_add_up(
    in_empty: None, arguments: tuple[str, ...], count: int
) -> None:
    assert dynafront(*arguments).exit_code == 0
    assert verbosity() == count


@pytest.mark.parametrize(("count", "printed"), [(0, ""), (1, "seen"), (2, "seenclosely")])
def test_more_flags_print_more(
    count: int, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_logs(count)
    logger = logging.getLogger("dynafront.search.somewhere")
    logger.info("seen")
    logger.debug("closely")
    lines = capsys.readouterr().err.splitlines()
    assert "".join(line.rpartition(" ")[2] for line in lines) == printed


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_with(ZeroDivisionError("no such luck"), monkeypatch)
    result = dynafront("status")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: ZeroDivisionError: no such luck (unexpected; run it with -v for the traceback)\n"
    )


@pytest.mark.parametrize("arguments", [("status", "-v"), ("-v", "status")])
def test_an_unexpected_error_shows_its_traceback_on_request(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(ZeroDivisionError("no such luck"), monkeypatch)
    result = dynafront(*arguments)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "in read_settings" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"), [(StorageError("it is away"), 1), (ValueError("no such thing"), 2)]
)
def test_an_expected_error_shows_its_traceback_only_among_the_details(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(error, monkeypatch)
    seen = {}
    for flag in ("-v", "-vv"):
        result = dynafront("status", flag)
        assert (result.exit_code, str(error) in result.stderr) == (code, True)
        seen[flag] = "Traceback" in result.stderr
    assert seen == {"-v": False, "-vv": True}


@pytest.mark.slow
def test_worker_processes_print_what_they_do_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    show_logs(1)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # its forks print where it did
    engine = LocalProcesses(1)
    job = Job(
        kind="search",
        number=3,
        family="gated_resnet",
        params={"backbone": "no such backbone"},
        epochs=1,
        seed=0,
        data=DataSpec(source="digits"),
        checkpoints=str(tmp_path),
        key="s/search-0003",
        threads=1,
    )
    try:
        engine.submit(job)
        happened = engine.next_event(120)
    finally:
        engine.close()
    assert happened
    assert isinstance(happened[1], Failure)
    printed = capfd.readouterr().err
    assert re.search(r"worker-0 dynafront\.search\.run\.worker: trial 3 failed in epoch 1", printed)
