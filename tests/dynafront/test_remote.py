"""The studies of a server: the same answers as on its own machine, and one line where it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynafront
from dynafront.connection import Connection
from dynafront.remote import RemoteStudy
from tests.storage.test_mlflow_server import free_port

PASSWORD = "the admin's password, ä"


def started(folder: Path, *command: str, **variables: str) -> tuple[subprocess.Popen[str], str]:
    """A server of this folder, once it answers; and its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "search.cli", *command, "--port", str(port)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "ready" in line:
            return process, f"http://127.0.0.1:{port}"
    raise AssertionError("".join(said))


def ended(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def address(finished: Path) -> Iterator[str]:
    process, address = started(finished, "ui", "--no-browser")
    yield address
    ended(process)


@pytest.fixture
def server(address: str) -> dynafront.Server:
    return dynafront.connect(f"{address}/dynafront/study?name=tiny")


@pytest.mark.slow
def test_a_study_is_the_same_from_afar(server: dynafront.Server, here: Path) -> None:
    own, (far,) = dynafront.study("tiny"), server.studies()
    assert isinstance(far, RemoteStudy)
    assert far.name == "tiny"
    assert far.front().equals(own.front()[far.front().columns])
    assert list(far.front().columns) == list(own.front().columns)
    assert far.front("gated_resnet").equals(own.front("gated_resnet"))
    assert own.status().items() <= far.status().items()
    assert repr(far) == repr(own).replace("'tiny')", f"'tiny' at {server.connection.address})")
    assert far.plot().to_json() == own.plot().to_json(), "the same picture, title and all"


@pytest.mark.slow
def test_a_point_is_picked_as_at_home(server: dynafront.Server, here: Path) -> None:
    own, far = dynafront.study("tiny"), server.study("tiny")
    for how in ({}, {"pick": "fastest"}, {"max_macs": 20e6}, {"min_accuracy": 0.1}):
        near, distant = own.best(**how), far.best(**how)
        assert (distant.trial, distant.accuracy, distant.macs) == (
            near.trial,
            near.accuracy,
            near.macs,
        )
        assert (distant.params, distant.knobs) == (near.params, near.knobs)
        assert isinstance(distant, dynafront.Point)
    with pytest.raises(ValueError, match=r"^no point .*cheapest"):
        far.best(max_macs=1)
    with pytest.raises(ValueError, match="is not a way to pick"):
        far.best(pick="luckiest")


@pytest.mark.slow
def test_a_model_is_exported_there_and_used_here(
    server: dynafront.Server, tmp_path: Path, here: Path
) -> None:
    point = server.study("tiny").best(pick="fastest")
    model = point.export(tmp_path / "model", show=False)
    image = np.zeros((8, 8), np.uint8)
    assert model(image).label in model.classes
    assert model.description["study"] == "tiny"
    with pytest.raises(ValueError, match="holds an exported model already; force=True"):
        point.export(tmp_path / "model")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty"):
        point.export(tmp_path / "other", force=True)


@pytest.mark.slow
def test_what_cannot_be_is_one_line(server: dynafront.Server) -> None:
    with pytest.raises(ValueError, match=r"^there is no study nosuch$"):
        server.study("nosuch")
    with pytest.raises(ValueError, match=r"^study tiny is not being searched$"):
        server.study("tiny").stop()
    with pytest.raises(ValueError, match="famlies: no such key"):
        server.search(study="x", data="digits", families=["gated_resnet"], famlies=1)
    with pytest.raises(ValueError, match="give where the images are on the server"):
        server.search(study="x", data=(1, 2))


@pytest.mark.slow
def test_a_server_with_users_asks_who_one_is(tmp_path: Path) -> None:
    process, address = started(tmp_path, "serve", MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD)
    try:
        with pytest.raises(ValueError, match="it asks who you are: connect"):
            dynafront.connect(address)
        with pytest.raises(ValueError, match="wrong user or password: connect"):
            dynafront.connect(address, user="admin", password="guessed long enough")
        server = dynafront.connect(address, user="admin", password=PASSWORD)
        assert server.studies() == []
        assert "password" not in repr(server)
        account = {"username": "ann", "password": "a reader's password"}
        made = server.connection._session.post(
            f"{address}/api/2.0/mlflow/users/create", json=account
        )
        assert made.status_code == 200
        reader = dynafront.connect(address, user="ann", password=account["password"])
        assert reader.studies() == []
        with pytest.raises(ValueError, match="this is for admins"):
            reader.search(study="x", data="digits", families=["gated_resnet"])
        with pytest.raises(ValueError, match="give either text"):
            server.connection.post("launch")
        foreign = reader.connection._session.get(address, headers={"Host": "evil.example"})
        assert foreign.status_code == 403
        for guessed in range(5):
            with pytest.raises(ValueError, match="wrong user or password"):
                dynafront.connect(address, user="ann", password=f"guessed it, number {guessed}")
        with pytest.raises(ValueError, match=r"^too many wrong passwords: try again in \d+ s$"):
            dynafront.connect(address, user="ann", password="and once more")
        assert reader.studies() == [], "who is signed in goes on"
    finally:
        ended(process)


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("nets.lan:5000", "is no address of a server: write http://HOST:5000"),
        ("http://ann:secret@nets.lan", "the address holds a name or a password"),
    ],
)
def test_an_address_that_cannot_be_is_told(address: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        dynafront.connect(address, user="ann", password="secret")


def test_nobody_there_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError, match="does not answer"):
        dynafront.connect(f"http://127.0.0.1:{free_port()}")


def test_the_account_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    sent: Any = Connection("http://nets.lan", None, None)._session.headers["Authorization"]
    assert sent == "Basic YW5uOnNlY3JldA=="
