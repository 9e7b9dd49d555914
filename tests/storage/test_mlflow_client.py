"""The way to MLflow: limits, filters, errors."""

import base64
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from storage.errors import StorageError
from storage.mlflow_client import (
    DESCRIPTION_CHARACTERS,
    DIVERTING,
    ENVIRONMENT,
    asking,
    batches,
    client,
    fitting,
    having,
)
from storage.settings import Settings
from storage.urls import without_password

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def test_batches_keep_to_the_limits_and_lose_nothing():
    params, metrics = list(range(250)), list(range(2000))
    parts = list(batches(params, metrics))
    assert all(len(p) <= 100 and len(m) <= 1000 and len(p) + len(m) <= 1000 for p, m in parts)
    assert [x for p, _ in parts for x in p] == params
    assert [x for _, m in parts for x in m] == metrics
    assert list(batches([], [])) == []


def test_mlflow_is_told_what_nobody_has_said(tmp_path, monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "to be left out")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    client(Settings.model_validate({"storage": {"folder": tmp_path}}))
    assert {name: os.environ[name] for name in ENVIRONMENT} == {
        **ENVIRONMENT,
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "7",
    }


def test_a_filter_names_every_tag_and_survives_an_apostrophe():
    assert having({"automl.kind": "study", "automl.study": "ann's"}) == (
        "tags.`automl.kind` = 'study' and tags.`automl.study` = \"ann's\""
    )


def test_a_long_note_is_cut_at_a_line_and_says_so():
    assert fitting("| a | b |") == "| a | b |"
    cut = fitting("".join(f"| row {i:05d} |\n" for i in range(1000)))
    assert len(cut) < 8000
    rows, _, end = cut.rpartition("\n\n")
    assert rows.endswith("|")
    assert "shortened" in end
    assert 4800 < len(fitting("| row |\n" * 1000, DESCRIPTION_CHARACTERS)) < 5000


def test_the_module_costs_no_import_of_mlflow():
    code = (
        "import sys, storage.mlflow_log, storage.mlflow_server; sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Asked(BaseHTTPRequestHandler):
    """A server that knows no experiment, and remembers who asked for what."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_POST(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_user_password_and_a_last_slash_of_an_address_reach_the_server_as_they_should():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client(Settings(tracking_uri=f"HTTP://me:secret@127.0.0.1:{server.server_port}/"))
    finally:
        server.shutdown()
        server.server_close()
    me = base64.b64encode(b"me:secret").decode()
    assert Asked.asked == [("/api/2.0/mlflow/experiments/search", f"Basic {me}")]


@pytest.mark.parametrize("password", ["secret", "sec:ret", "sec@ret", "sec/ret", "@secret/"])
def test_no_part_of_a_password_is_shown(password):
    for host in ("host/db", "host:5432/db?a=b"):
        shown = without_password(f"cannot reach postgresql+psycopg://me:{password}@{host}, really")
        assert shown == f"cannot reach postgresql+psycopg://me:***@{host}, really"


@pytest.mark.parametrize("key", ["password", "sslpassword"])
def test_no_password_in_a_query_is_shown(key):
    shown = without_password(
        f"cannot reach postgresql+psycopg://host/db?user=me&{key}=sec/ret&a=b, really"
    )
    assert shown == f"cannot reach postgresql+psycopg://host/db?user=me&{key}=***&a=b, really"


def test_what_is_set_for_programs_of_a_users_own_does_not_divert_ours(monkeypatch, tmp_path):
    for name in DIVERTING:
        monkeypatch.setenv(name, "x")
    with asking(Settings(storage={"folder": tmp_path})):
        assert not set(DIVERTING) & set(os.environ)
    assert set(DIVERTING) <= set(os.environ)


@pytest.mark.slow
def test_a_server_that_is_away_is_told_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            StorageError, match=r"^MLflow at http://me:\*\*\*@[^ ]+: no answer; start the server"
        ) as told:
            client(Settings(tracking_uri=url))
    assert "secret" not in str(told.value)


@pytest.mark.slow
def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text(
        "this is not a database at all, only a text that is long enough" * 50
    )
    with pytest.raises(
        StorageError, match=r"MLflow at sqlite:///.*mlflow.db: .*not a database"
    ) as told:
        client(Settings(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert "\n" not in str(told.value)
