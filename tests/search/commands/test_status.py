"""What `dynafront status` says of a study, and `dynafront status --trace` of what went wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from search.cli import main
from search.commands.status import as_text, statuses
from search.commands.trace import trace_name, training_of
from search.spec import parse_study
from storage.records import Kind
from storage.store import Store

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 9, epochs: 3}\n"


def fail(store: Store, kind: str, number: int, error: str, trace: str, epoch: int | None) -> None:
    store.add_trial("s", kind, number, "gated_resnet", {"backbone": "resnet8"}, 0, 3)
    store.fail_trial("s", kind, number, error=error, epoch=epoch, trace=trace)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Trial 0 failed twice, baseline 2 once; trial 1 is running."""
    monkeypatch.chdir(tmp_path)
    found = Store.open("sqlite:///dynafront-data/dynafront.db")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    found.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7})
    fail(found, "search", 0, "KeyError: 'a'", "Traceback of the first\n", 2)
    fail(found, "search", 0, "KeyError: 'b'", "Traceback of the second\n", None)
    fail(found, "static", 2, "the loss is nan", "", 1)
    found.add_trial("s", "search", 1, "gated_resnet", {"backbone": "resnet8"}, 0, 3)
    return found


def dynafront(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_a_trace_shows_every_attempt_with_its_epoch_and_time(store: Store) -> None:
    result = dynafront("status", "s", "--trace", "0")
    first, second = store.failures("s")[:2]
    assert result.output == (
        f"trial 0, attempt 1 of 2: failed in epoch 2, {first.at:%Y-%m-%d %H:%M:%S} UTC\n"
        "KeyError: 'a'\n\nTraceback of the first\n\n"
        f"trial 0, attempt 2 of 2: failed before its first epoch, {second.at:%Y-%m-%d %H:%M:%S} UTC\n"
        "KeyError: 'b'\n\nTraceback of the second\n\n"
    )


def test_a_trace_as_json_has_the_same(store: Store) -> None:
    found = json.loads(dynafront("status", "s", "--trace", "0", "--json").output)
    assert [(f["kind"], f["trial"], f["epoch"], f["trace"]) for f in found] == [
        ("search", 0, 2, "Traceback of the first\n"),
        ("search", 0, None, "Traceback of the second\n"),
    ]


def test_a_failure_without_a_traceback_says_so(store: Store) -> None:
    output = dynafront("status", "s", "--trace", "baseline-2").output
    assert "baseline 2, attempt 1 of 1: failed in epoch 1" in output
    assert "the loss is nan\n\n(no traceback" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("s", "--trace", "1"), "trial 1 of study s has not failed; failed: 0, baseline-2"),
        (("s", "--trace", "seven"), "--trace seven: give a trial's number"),
        (("t", "--trace", "0"), "there is no study t"),
        (("--trace", "0"), "dynafront status NAME --trace 0"),
    ],
)
def test_what_has_no_trace_is_one_line(
    store: Store, arguments: tuple[str, ...], message: str
) -> None:
    result = dynafront("status", *arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("7", (Kind.SEARCH, 7)),
        ("trial-7", (Kind.SEARCH, 7)),
        ("baseline-2", (Kind.BASELINE, 2)),
        ("finalist-1", (Kind.FINALIST, 1)),
    ],
)
def test_trainings_have_names_that_are_read_back(name: str, training: tuple[Kind, int]) -> None:
    assert training_of(name) == training
    assert training_of(trace_name(*training)) == training


def test_status_says_how_to_see_the_trace_of_what_failed(store: Store) -> None:
    lines = dynafront("status", "s").output.splitlines()
    assert lines[-2:] == [
        "  failed   trial 0: KeyError: 'b'",
        "  trace    dynafront status s --trace 0",
    ]


def test_status_shows_the_last_failures_and_how_many_there_are(store: Store) -> None:
    for number in range(2, 9):
        fail(store, "search", number, "too bad", "", 1)
    output = dynafront("status", "s").output
    assert "failed   8 trials, the last 5:" in output
    assert "trial 8: too bad" in output
    assert "trial 3: too bad" not in output
    assert "--trace 8" in output


def test_status_says_where_exported_models_are(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    store.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7})
    store.add_export("s", pick="knee", folder="models/knee", report={})
    store.add_export("s", pick="best", folder="models/best", report={}, model_uri="models:/s@best")
    (status,) = statuses(store, "s")
    assert [export["folder"] for export in status["exports"]] == ["models/knee", "models/best"]
    assert "  exported knee: models/knee\n  exported best: models:/s@best" in as_text(status)
