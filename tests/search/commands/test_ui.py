"""`dynafront ui`: what is printed when, and when a browser is opened. The server itself: tests/storage."""

from __future__ import annotations

import io
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

import search.commands.ui as module
from search.cli import main
from search.commands.ui import front_address, has_display, open_ui
from storage.records import StudyRecord
from storage.settings import Settings
from storage.store import Store

Ready = Callable[[str], None]
HERE = "http://127.0.0.1:5000"


def study(name: str, experiment_id: str | None) -> StudyRecord:
    store = Store.open("sqlite:///s.db")
    store.add_study(name, {}, "", {})
    if experiment_id:
        store.set_study_run(name, experiment_id, "run")
    return store.study(name)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that browsers are opened on."""
    found: list[str] = []

    def show(url: str) -> bool:
        found.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", show)
    return found


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed; `serve` marks in it when the server starts and when it is there."""
    text = io.StringIO()

    def serve(settings: Settings, ready: Ready, starting: Ready) -> None:
        starting(HERE)
        text.write("(the server starts)\n")
        ready(HERE)

    monkeypatch.setattr(module, "serve", serve)
    return text


def test_the_address_and_what_is_waited_for_are_there_before_the_server(
    written: io.StringIO, opened: list[str]
) -> None:
    one = study("digits", "7")
    open_ui(Settings(), [one], Console(file=written, width=200), browser=True)
    front = front_address(HERE, [one])
    assert written.getvalue().splitlines() == [
        f"MLflow UI: {HERE}",
        f"  digits: {front}",
        "  waiting for the MLflow server to start (its log: dynafront-data/mlflow-server.log)",
        "(the server starts)",
        "  ready; Ctrl-C stops it (MLflow's own pages take some seconds more)",
    ]
    assert front == f"{HERE}/dynafront/study?name=digits"
    assert opened == [front]


def test_without_a_browser_only_the_address_is_printed(
    written: io.StringIO, opened: list[str]
) -> None:
    open_ui(Settings(), [], Console(file=written, width=200), browser=False)
    assert opened == []
    assert "no study yet" in written.getvalue()


def test_a_browser_that_does_not_open_is_said(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    open_ui(Settings(), [], Console(file=written, width=200), browser=True)
    assert "no browser could be opened; open the address above" in written.getvalue()


def test_several_studies_open_the_list_of_them() -> None:
    assert front_address(HERE, [study("a", "1"), study("b", "2")]) == f"{HERE}/dynafront/"
    assert front_address(HERE, [study("c d", None)]) == f"{HERE}/dynafront/study?name=c%20d"


def test_a_server_that_is_not_ours_opens_mlflows_own_view() -> None:
    front = front_address(HERE, [study("e", "7")], pages=False)
    assert front.startswith(f"{HERE}/#/experiments/7/runs?viewStateShareKey=pareto")
    assert front_address(HERE, [study("f", None)], pages=False) == HERE
    assert front_address(HERE, [study("g", "1"), study("h", "2")], pages=False) == HERE


@pytest.mark.parametrize(
    ("terminal", "display", "expected"),
    [(True, ":0", True), (True, "", False), (False, ":0", False)],
)
def test_a_browser_needs_a_terminal_and_a_display(
    terminal: bool, display: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in module.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    assert has_display() is expected


@pytest.mark.parametrize(
    ("flags", "wanted"), [([], False), (["--browser"], True), (["--no-browser"], False)]
)
def test_the_flags_are_heard(
    flags: list[str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        module,
        "open_ui",
        lambda settings, studies, console, browser: asked.append((settings.server.port, browser)),
    )
    result = CliRunner().invoke(main, ["ui", "--port", "5077", *flags])
    assert result.exit_code == 0, result.output
    assert asked == [(5077, wanted)]


def test_a_port_for_a_server_elsewhere_is_refused() -> None:
    Path("mlflow.yml").write_text("tracking_uri: http://tracking:5000\n")
    result = CliRunner().invoke(main, ["ui", "--port", "5077"])
    assert result.exit_code == 2
    assert "--port 5077: the UI runs at http://tracking:5000" in result.output
