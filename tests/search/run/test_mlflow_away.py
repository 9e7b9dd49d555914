"""An MLflow that refuses, or takes a call and never answers: the study goes on, and its tables know what is missing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from search.run.publish import Publisher
from search.spec import parse_study
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 2, epochs: 1}\n"
REFUSED = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n"
    b"Connection: close\r\n\r\nnot today"
)


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A port of this machine that takes every call, and its address."""
    over, calls = threading.Event(), list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def serve() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    calls.append(listening.accept()[0])
                    answer(calls[-1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        thread.join()
    for call in calls:
        call.close()


def silent(call: socket.socket) -> None:
    """Takes the call and never answers."""


def refusing(call: socket.socket) -> None:
    call.recv(4096)
    call.sendall(REFUSED)
    call.close()


@pytest.mark.slow
@pytest.mark.parametrize("answer", [silent, refusing])
def test_a_study_goes_on_where_mlflow_does_not_answer_or_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    store = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    spec, said = parse_study(TEXT, "s"), list[str]()
    store.add_study("s", spec.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e7})
    store.add_trial("s", "search", 0, "gated_resnet", {"backbone": "resnet8"}, 0, 1)
    store.finish_trial("s", "search", 0, points=[operating_point(0.8, 1e6)], result={}, seconds=1.0)
    with server(answer) as address:
        values = {"storage": {"folder": tmp_path}, "tracking_uri": address}
        publisher = Publisher(store, Settings.model_validate(values), spec, said.append)
        publisher.start()
        began = time.monotonic()
        publisher.trial_finished("search", 0)
        publisher.front_changed()
        assert time.monotonic() - began < 0.5, "it never holds a trial up"
        publisher.close()
    assert publisher.away
    (line,) = said
    assert line.startswith("MLflow cannot be reached (MLflow at http://127.0.0.1:")
    assert line.endswith("trials go on, `dynafront sync` will catch up")
    assert len(line.splitlines()) == 1
    assert [t.published for t in store.trials("s")] == [False], "sync knows what is missing"


@pytest.mark.slow
def test_a_search_does_not_wait_for_ever_for_an_mlflow_that_takes_its_time(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    spec, said = parse_study(TEXT, "s"), list[str]()
    store.add_study("s", spec.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e7})
    with server(silent) as address:
        values = {"storage": {"folder": tmp_path}, "tracking_uri": address}
        publisher = Publisher(store, Settings.model_validate(values), spec, said.append)
        publisher.start()
        began = time.monotonic()
        publisher.close(0.5)
        assert time.monotonic() - began < 5
        assert publisher.away
    assert said == ["MLflow is slow; run `dynafront sync` later to bring it up to date"]
