"""The MLflow UI as a child process."""

import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from storage.errors import StorageError
from storage.mlflow_server import address, command, serve
from storage.settings import Settings

ROOT = Path(__file__).parents[2]
USERS = {"DYNAFRONT_SERVER_USERS": "1"}
SERVE = """
import sys
from storage.mlflow_server import serve
from storage.settings import Settings
settings = Settings(storage={"folder": sys.argv[1]}, server={"port": int(sys.argv[2])})
serve(settings, lambda url: print(url, flush=True))
"""


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_server_is_small_and_listens_to_this_machine_only():
    arguments, environment = command(Settings())
    assert arguments[0] == sys.executable
    assert option(arguments, "--host") == "127.0.0.1"
    assert "-P" in arguments, "a file of the current folder is no package"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_a_host_name_is_allowed_with_and_without_the_port():
    _, environment = command(
        Settings(server={"host": "0.0.0.0", "port": 80, "allowed_hosts": ["nets.lan", "::1"]}),
        USERS,
    )
    assert environment["MLFLOW_SERVER_ALLOWED_HOSTS"] == "nets.lan,[::1],nets.lan:80,[::1]:80"
    origins = environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert "https://nets.lan:80" in origins


def test_a_password_is_in_no_argument_that_others_could_read():
    arguments, environment = command(
        Settings(tracking_uri="postgresql+psycopg://me:secret@db/mlflow")
    )
    assert "secret" not in " ".join(arguments)
    given = json.loads(environment["DYNAFRONT_SERVER_SETTINGS"])
    assert given["tracking_uri"] == "postgresql+psycopg://me:secret@db/mlflow"


def test_artifacts_go_to_a_folder_or_a_bucket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for root, full in (("files", f"{tmp_path}/files"), ("s3://nets", "s3://nets")):
        _, environment = command(Settings(artifact_root=root))
        assert json.loads(environment["DYNAFRONT_SERVER_SETTINGS"])["artifact_root"] == full


def test_a_host_open_to_the_network_needs_users_and_names():
    named = {"host": "0.0.0.0", "allowed_hosts": ["nets.lan"]}
    with pytest.raises(ValueError, match=r"without a password; start `dynafront serve`"):
        command(Settings(server=named))
    with pytest.raises(ValueError, match=r"^server.host: 0.0.0.0 opens .* server.allowed_hosts"):
        command(Settings(server={"host": "0.0.0.0"}), USERS)
    assert command(Settings(server=named), USERS)[1]["DYNAFRONT_SERVER_USERS"] == "1"
    with pytest.raises(ValueError, match=r"server.allowed_hosts: '\*' would let any web page"):
        command(Settings(server={"allowed_hosts": ["*"]}))


def test_the_address_is_one_that_the_server_accepts():
    assert address(Settings()) == "http://127.0.0.1:5000"
    assert (
        address(Settings(server={"host": "0.0.0.0", "allowed_hosts": ["nets.lan"]}))
        == "http://nets.lan:5000"
    )
    assert (
        address(Settings(server={"host": "::1", "allowed_hosts": ["::1"]})) == "http://[::1]:5000"
    )


def test_a_server_elsewhere_needs_none_here():
    found: list[str] = []
    serve(Settings(tracking_uri="http://tracking:5000"), found.append)
    serve(Settings(tracking_uri="http://me:secret@tracking:5000"), found.append)
    assert found == ["http://tracking:5000"] * 2


def test_a_port_in_use_is_named_with_one_that_is_free(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(storage={"folder": tmp_path}, server={"port": port})
        with pytest.raises(ValueError, match=rf"^port {port} on 127.0.0.1 cannot be") as raised:
            serve(settings, print)
    other = re.search(r"take another: --port (\d+)$", str(raised.value))
    assert other
    assert other[1] != str(port)
    with socket.create_server(("127.0.0.1", int(other[1]))):
        pass


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_server_that_runs_already_is_named_by_its_address(tmp_path):
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as taken:
        threading.Thread(target=taken.serve_forever, daemon=True).start()
        settings = Settings(storage={"folder": tmp_path}, server={"port": taken.server_port})
        address = f"http://127.0.0.1:{taken.server_port}"
        with pytest.raises(
            ValueError, match=f"an MLflow server runs there already: open {address}"
        ):
            serve(settings, print)
        taken.shutdown()


def test_a_start_that_cannot_be_is_not_announced(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(storage={"folder": tmp_path}, server={"port": taken.getsockname()[1]})
        said: list[str] = []
        with pytest.raises(ValueError, match="cannot be used"):
            serve(settings, print, said.append)
    assert said == []


def test_a_host_that_is_none_of_ours_is_told():
    settings = Settings(server={"host": "256.1.1.1", "allowed_hosts": ["nets.lan"]})
    with pytest.raises(
        ValueError, match=r"^server.host: '256.1.1.1' is no address of this machine"
    ):
        serve(settings, print, users=USERS)


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why_and_where_to_read_on(tmp_path):
    (tmp_path / "mlflow.db").write_text(
        "this is not a database at all, only a text that is long enough" * 50
    )
    settings = Settings(storage={"folder": tmp_path}, server={"port": free_port()})
    with pytest.raises(
        StorageError, match=r"MLflow cannot start: .*not a database.*mlflow-server.log"
    ):
        serve(settings, print)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_answers_allowed_hosts_and_ends_without_a_trace(tmp_path, number):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path), str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout.readline().decode().strip() == f"http://127.0.0.1:{port}"
        assert status(port, f"127.0.0.1:{port}") == 200
        assert status(port, "evil.example") == 403
        children = running_with(f"--port {port}")
        assert children
    finally:
        process.send_signal(number)
        process.wait(20)
        process.stdout.close()
    assert not any(alive(child) for child in children)
    with socket.create_server(("127.0.0.1", port)):
        pass


def status(port: int, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def running_with(words: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if words in (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(
                errors="replace"
            ):
                found.append(int(folder.name))
    return found


def alive(process_id: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True
