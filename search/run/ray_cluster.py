"""The Ray cluster of a search: found, or started on this machine, and left."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from search.engine_keys import check_inside
from search.logs import verbosity
from search.run.ray_errors import reason
from search.run.ray_token import MODE, kept_token, own_token

logger = logging.getLogger(f"dynafront.{__name__}")

AUTO, LOCAL = "auto", "local"
VARIABLE = "RAY_ADDRESS"
UV = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
UNASKED = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    UV: "0",  # else below `uv run` it sends the folder to every machine, and makes an environment without Ray there
}
SHORT = Path("/tmp")  # paths of sockets have 107 bytes at most, of which Ray needs 70
STORE_BYTES = 2**28  # of shared memory: what trainings report is small
CHECK_SECONDS = 5.0  # between two looks at whether the head is there
LOST_SECONDS = 30.0  # without an answer of the head; one that restarts is back by then
STARTS = 3  # tries to start it on this machine
SECONDS = 3.0  # until a cluster has to take a connection


class ClusterError(RuntimeError):
    """There is no cluster, or it is gone; says what to do."""


@dataclass
class Cluster:
    """A cluster that this process is connected to; `left` ends what was made for that."""

    ray: ModuleType
    is_ours: bool  # the connection, which `close` ends
    left: ExitStack = field(default_factory=ExitStack)
    is_lost: bool = False
    _checked: float = field(default_factory=time.monotonic)
    _heard: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raise ClusterError once its head has not answered for a while.

        Ray itself ends this process after a minute of that, whatever it does then.
        """
        now = time.monotonic()
        if now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        address = self.ray.get_runtime_context().gcs_address
        if answers(address):
            self._heard = now
        elif now - self._heard > LOST_SECONDS:
            self.is_lost = True
            atexit.unregister(self.ray.shutdown)  # it would wait for the head
            raise ClusterError(
                f"the head of the Ray cluster at {address} is gone; once there is one, search again to go on"
            )

    def close(self) -> None:
        """End the connection, and the cluster where it was started for it; nothing of that is left."""
        if self.is_ours and not self.is_lost and self.ray.is_initialized():
            with _own_signals():
                self.ray.shutdown()
        self.left.close()


def check_installed() -> None:
    """Raise ValueError where there is no Ray."""
    if find_spec("ray") is None:
        raise ValueError("run.engine: ray is not installed: pip install 'dynafront[ray]'")


def connected(address: str | None, say: Callable[[str], None] = lambda line: None) -> Cluster:
    """The cluster at HOST:PORT; None: one of this machine alone, which is started.

    `say` is told what takes seconds. Raises ValueError where Ray is not installed, ClusterError where nothing answers.
    """
    check_installed()
    ray = _quiet_ray()
    if ray.is_initialized():
        return Cluster(ray, is_ours=False)
    if address is None:
        say("starting Ray on this machine")
        return _started(ray)
    say(f"connecting to the Ray cluster at {address}")
    _check_answers(address)
    with ExitStack() as left:
        if address == noted_address():
            left.enter_context(kept_token())
        try:
            with _own_signals():
                ray.init(address, log_to_driver=verbosity() > 0, configure_logging=False)
        except Exception as error:
            raise ClusterError(_refusal(address, error)) from error
        return Cluster(ray, is_ours=True, left=left.pop_all())


def address_of(address: str) -> str | None:
    """HOST:PORT of the cluster that a study file names; None where one is to be started on this machine.

    Raises ValueError where the variable that Ray reads names none.
    """
    if address == LOCAL:
        return None
    if address != AUTO:
        return address
    named = os.environ.get(VARIABLE) or AUTO
    if named != AUTO:
        check_inside(named, VARIABLE, "unset it there")
        return None if named == LOCAL else named
    noted = noted_address()
    # the note outlives a cluster that was killed
    return noted if noted and answers(noted) else None


def noted_address() -> str | None:
    """What `ray start` has started on this machine last, as Ray itself finds it; it may be gone."""
    _quiet_ray()
    from ray._private.utils import read_ray_address

    try:
        return read_ray_address() or None
    except OSError:
        return None


def _started(ray: ModuleType) -> Cluster:
    """A cluster of this machine alone; it answers nobody else, and ends with this process."""
    for _ in range(STARTS):
        try:
            return _started_once(ray)
        except Exception as error:
            # Ray gives its processes 15 seconds to start, which can be too few where the cores are busy
            logger.warning("Ray did not start", exc_info=error)
            why = reason(error)
    raise ClusterError(
        f"Ray does not start on this machine: {why.rstrip('.')}; try again when it is less busy, or with "
        "`ray start --head` first"
    )


def _started_once(ray: ModuleType) -> Cluster:
    where = SHORT if SHORT.is_dir() and os.access(SHORT, os.W_OK) else None
    with ExitStack() as left:
        folder = tempfile.mkdtemp(prefix="ray-", dir=where)
        left.callback(shutil.rmtree, folder, ignore_errors=True)
        left.enter_context(own_token())
        try:
            with _own_signals():
                ray.init(
                    LOCAL,
                    include_dashboard=False,
                    log_to_driver=verbosity() > 0,
                    configure_logging=False,
                    object_store_memory=STORE_BYTES,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=folder,
                )
        except BaseException:
            ray.shutdown()
            raise
        return Cluster(ray, is_ours=True, left=left.pop_all())


def _refusal(address: str, error: Exception) -> str:
    line = f"run.address: the Ray cluster at {address} refuses: {reason(error)}"
    if MODE in os.environ:
        return line
    return f"{line}; where it asks for a token, set {MODE}=token"


def _quiet_ray() -> ModuleType:
    """Ray, which sends and prints nothing unasked, and takes no copy of the folder along."""
    for name, value in UNASKED.items():
        os.environ.setdefault(name, value)
    import ray
    from ray._private import ray_constants, worker

    # Ray reads it when it is imported, which may have been before
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = os.environ[UV] != "0"
    logging.getLogger("ray").setLevel(logging.INFO if verbosity() > 1 else logging.ERROR)
    if not verbosity():
        # of a machine that is lost Ray prints the end of a log; a search says it in one line
        worker.print_to_stdstream = lambda *_, **__: None
    return ray


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray changes what a signal does to this process; afterwards it does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _check_answers(address: str) -> None:
    if not answers(address):
        raise ClusterError(
            f"run.address: nothing answers at {address}; start the cluster, or write `address: local` for one of this "
            "machine alone"
        )


def answers(address: str) -> bool:
    """Whether something takes connections there."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS):
            return True
    except (OSError, ValueError):
        return False
