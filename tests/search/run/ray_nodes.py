"""Ray clusters of several nodes on this machine, for tests and benchmarks; each node is a raylet of its own."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.run.ray_trainer import Trainer
from search.run.watch import TrialLimits

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
LISTEN_PORT = "dashboard_agent_listen_port"
ASKED_FOR = "DYNAFRONT_TEST_RAY"
minutes = pytest.mark.skipif(
    ASKED_FOR not in os.environ, reason=f"takes minutes; {ASKED_FOR}=1 runs it"
)
TRIES = 3  # to start: half a minute, which Ray waits at most, can be too short where tests fill all cores
NODE_ID = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"


class Homeless(Trainer):
    """Has no folder on nodes with a variable of this name."""

    VARIABLE = "DYNAFRONT_TEST_NO_FOLDER"

    def __init__(self, limits: TrialLimits, gpus: int, folder: str, verbosity: int) -> None:
        there = "/no/such/folder" if self.VARIABLE in os.environ else folder
        super().__init__(limits, gpus, there, verbosity)


class RayNodes:
    """A cluster that a test adds nodes to and takes them from. Its folder goes with it."""

    def __init__(self, cpus: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need short paths
        os.environ.update(ENVIRONMENT | {"RAY_TMPDIR": str(self._folder)})
        import ray._private.utils
        from ray.cluster_utils import Cluster

        # agents of nodes leave out what a dashboard would show, and start in half the time
        ray._private.utils.get_dashboard_dependency_error = lambda: ImportError("not wanted")
        (self._folder / "ray").mkdir()
        self._cluster = Cluster()
        self.head = self.add(cpus, include_dashboard=False, no_monitor=True)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, cpus: int, **more: Any) -> Any:
        """One more node."""
        for _ in range(TRIES - 1):
            try:
                return self._added(cpus, **more)
            except Exception as error:  # its processes end with this one
                print(f"a node did not start: {error}")
        return self._added(cpus, **more)

    def _added(self, cpus: int, **more: Any) -> Any:
        ports = dict(zip((*PORTS, LISTEN_PORT), free_ports(4), strict=True))
        with self._listen_port_is_written(ports[LISTEN_PORT]):
            return self._cluster.add_node(
                num_cpus=cpus,
                include_log_monitor=False,
                object_store_memory=80_000_000,
                **ports,
                **more,
            )

    def kill(self, node: Any) -> None:
        """As if its plug were pulled."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        for node in [*self._cluster.worker_nodes, self._cluster.head_node]:
            if node is not None:
                self.kill(node)
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _listen_port_is_written(self, port: int) -> Iterator[None]:
        """Say at once where the node's agent will listen: Ray waits 15 s for it, too few where tests fill all cores."""
        node, over = uuid.uuid4().hex + uuid.uuid4().hex[:24], threading.Event()
        os.environ[NODE_ID] = node
        writer = threading.Thread(target=self._write_port, args=(node, port, over))
        writer.start()
        try:
            yield
        finally:
            over.set()
            writer.join()
            os.environ.pop(NODE_ID)

    def _write_port(self, node: str, port: int, over: threading.Event) -> None:
        while not over.wait(0.05):
            for folder in (self._folder / "ray").glob("session_2*"):
                (folder / f"{LISTEN_PORT}_{node}").write_text(str(port))


@contextmanager
def cluster(cpus: int) -> Iterator[RayNodes]:
    """A cluster of one node for tests.

    They are skipped where Ray does not start in the seconds that it waits, unless somebody asked for tests of Ray.
    """
    try:
        made = RayNodes(cpus)
    except Exception as error:  # Ray's own, of many kinds
        if ASKED_FOR in os.environ:
            raise
        pytest.skip(f"Ray does not start here: {error}")
    try:
        yield made
    finally:
        made.close()


def trainers(address: str) -> list[psutil.Process]:
    """The actors of a cluster that are alive; their raylets have its address on their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and words[0].startswith("ray::Trainer"):
            with suppress(psutil.Error):
                parents = (" ".join(one.cmdline()) for one in process.parents())
                found += [process] if any(address in text for text in parents) else []
    return found


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder for a test; the paths of Ray's sockets have room in it."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
