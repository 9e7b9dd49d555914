"""The MLflow UI for the settings' store, as a child process that lives as long as the call."""

from __future__ import annotations

import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

from storage.errors import StorageError
from storage.settings import Settings
from storage.urls import without_password, without_user

# 2 on two cores, 10 with users; more where others compute or a new database is on a slow disk
START_SECONDS = 120.0
STOP_SECONDS = 5.0
PROGRAM = "search.service.server"  # what runs in the child
SETTINGS_VARIABLE = "DYNAFRONT_SERVER_SETTINGS"  # how the server's process gets ours
EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # listening on all addresses: one to ask at


def command(
    settings: Settings, users: Mapping[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of the server's process; `users` is `users_environment` for one that has users.

    Raises ValueError where everyone could use it.
    """
    server = settings.server
    _check_exposure(settings, users is not None)
    # -P: a file of the current folder never takes the place of a package
    arguments = [sys.executable, "-P", "-m", PROGRAM]
    arguments += ["--host", server.host, "--port", str(server.port)]
    hosts = _host_headers(settings)
    # without these the UI's own requests are refused as foreign; https for whoever puts a proxy in front
    origins = [f"{scheme}://{name}" for name in hosts for scheme in ("http", "https")]
    environment = (
        dict(os.environ)
        | {
            # in the environment, because anyone on the machine can read arguments, and these may hold a password
            SETTINGS_VARIABLE: _at(settings).model_dump_json(),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 9 more processes and 2 GB that nothing here uses
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONUNBUFFERED": "1",
        }
        | dict(users or {})
    )
    return arguments, environment


def _at(settings: Settings) -> Settings:
    """The settings with the folder of artifacts in full."""
    root = settings.artifact_root
    if root is None or "://" in root:
        return settings
    return settings.model_copy(update={"artifact_root": str(Path(root).resolve())})


def serve(
    settings: Settings,
    ready: Callable[[str], None],
    starting: Callable[[str], None] = lambda address: None,
    users: Mapping[str, str] | None = None,
) -> None:
    """Run the UI until it ends or Ctrl-C; `ready` gets its address once it answers. Leaves no process behind.

    With `users` (`users_environment`) it asks everyone for a name and a password; without, only this machine can ask.

    `starting` gets the address before that, when nothing stands in the way of the start, which takes a while. With an
    MLflow server in tracking_uri there is nothing to run. Raises ValueError when the settings cannot work, StorageError
    when the server does not come up or dies.
    """
    if settings.remote:
        ready(without_user(settings.tracking_uri))
        return
    arguments, environment = command(settings, users)
    _check_port(settings)
    starting(address(settings))
    settings.folder.mkdir(parents=True, exist_ok=True)
    log = log_file(settings)
    with (
        log.open("wb") as output,
        _ended_by_signals(),
        _process(arguments, environment, output) as process,
    ):
        _await_health(process, settings, log)
        ready(address(settings))
        process.wait()
    raise StorageError(f"the MLflow server ended by itself: {_last_line(log)} (all of it: {log})")


def log_file(settings: Settings) -> Path:
    """Where the server's own output goes."""
    return settings.folder / "mlflow-server.log"


def address(settings: Settings) -> str:
    """The URL of the UI for a person on one of the allowed hosts."""
    server = settings.server
    name = server.host if server.host in server.allowed_hosts else server.allowed_hosts[0]
    return f"http://{f'[{name}]' if ':' in name else name}:{server.port}"


def _check_exposure(settings: Settings, has_users: bool) -> None:
    server = settings.server
    if "*" in server.allowed_hosts:
        raise ValueError(
            "server.allowed_hosts: '*' would let any web page talk to MLflow through a visitor's browser; "
            "list the names that the UI is reached by"
        )
    if on_this_machine(server.host):
        return
    if not has_users:
        raise ValueError(
            f"server.host: {server.host} would open the UI to the network without a password; "
            "start `dynafront serve`, which asks for one, or keep 127.0.0.1"
        )
    if all(on_this_machine(name) for name in server.allowed_hosts):
        raise ValueError(
            f"server.host: {server.host} opens the server to the network, and it answers to none of its names; "
            "list them in server.allowed_hosts, or with --allowed-host NAME"
        )


def on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _host_headers(settings: Settings) -> list[str]:
    """What a browser's Host header may say; MLflow compares it whole, port included."""
    names = [
        f"[{name}]" if name.count(":") > 1 and "[" not in name else name
        for name in settings.server.allowed_hosts
    ]
    return [*names, *(f"{name}:{settings.server.port}" for name in names)]


def _check_port(settings: Settings) -> None:
    """Raise ValueError, with another port to take, where the server could not listen."""
    host, port = settings.server.host, settings.server.port
    try:
        _bind(host, port)
    except PermissionError:
        raise ValueError(
            f"port {port} is reserved for root; take one above 1023: --port {_free_port(host)}"
        ) from None
    except socket.gaierror:
        raise ValueError(
            f"server.host: {host!r} is no address of this machine; 127.0.0.1 always works"
        ) from None
    except OSError as error:
        other = f"--port {_free_port(host)}"
        if _healthy(EVERY.get(host, host), port):
            raise ValueError(
                f"port {port}: an MLflow server runs there already: open {address(settings)}, or start another: {other}"
            ) from None
        raise ValueError(
            f"port {port} on {host} cannot be used ({error.strerror}); take another: {other}"
        ) from None


def _bind(host: str, port: int) -> int:
    """The port that was listened at for a moment. Raises OSError where that cannot be."""
    family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
        return int(probe.getsockname()[1])


def _free_port(host: str) -> int:
    """A port near the usual one that nothing listens at; any other where they are all taken."""
    for port in range(5001, 5100):
        with suppress(OSError):
            return _bind(host, port)
    return _bind(host, 0)


@contextmanager
def _process(
    arguments: list[str], environment: dict[str, str], output: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """The running process; it and its children are gone afterwards."""
    # in a group of its own: Ctrl-C reaches only us, and we end them all
    process = subprocess.Popen(
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _signal_group(process, signal.SIGTERM)
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:  # a second Ctrl-C ends the wait, not the cleaning up
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a closed terminal and a polite kill end us as Ctrl-C does, so that the child is ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    heard = [
        n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN
    ]  # nohup
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await_health(process: subprocess.Popen[bytes], settings: Settings, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    host = EVERY.get(settings.server.host, settings.server.host)
    while not _healthy(host, settings.server.port):
        if process.poll() is not None or time.monotonic() > deadline:
            what = (
                "did not start"
                if process.poll() is not None
                else f"gave no answer in {START_SECONDS:.0f} s"
            )
            raise StorageError(f"the MLflow server {what}: {_last_line(log)} (all of it: {log})")
        time.sleep(0.1)


def _healthy(host: str, port: int) -> bool:
    # knows no proxies, which urllib would ask
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _last_line(log: Path) -> str:
    lines = [
        line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    return without_password(next((line for line in reversed(lines) if line), "it said nothing"))[
        :300
    ]
