"""The service: seconds until `dynafront ui` answers, its memory, and what people who watch cost a search.

Memory is the peak of the proportional set size (PSS) of all its processes, from the start until MLflow's own pages are
loaded and every page was asked for once. Watching: the digits study with short trials is searched while a server of its
folder runs, alternately with nobody and with `--clients` who poll as the page of the study does, every 3 seconds, and
send the tag that they have. What counts is the ratio of the two times of the same study and seed.

    python benchmarks/service.py                      # about ten minutes
    python benchmarks/service.py --starts 5 --pairs 0 --json
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STUDY = """
study: watched
data: digits
families: [gated_resnet]
space: {{gated_resnet: {{backbone: resnet8, width: 0.5, batch: 64}}}}
budget: {{trials: {trials}, epochs: 6, warm_epochs: 2}}
run: {{precision: float32, threads: 1}}
seed: {seed}
"""
API = "/api/3.0/dynafront/"
POLLED = ("study", "points", "trials")  # by the page of a study, each time
POLL_SECONDS = 3.0
PATIENCE = 300.0  # seconds until a server answers, on a machine that is busy
GOALS = {"start_seconds": 5.0, "pss_mb": 400.0, "slower": 0.02}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=4, help="searches with and without watchers")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--trials", type=int, default=8, help="of the study that is watched")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": os.getloadavg()[0],
        "goals": GOALS,
    }
    if given.starts:
        found["starts"] = starts(given.starts)
    if given.pairs:
        found["watched"] = watched(given.pairs, given.clients, given.trials)
    print(json.dumps(found, indent=2) if given.json else _text(found))


def starts(count: int) -> dict[str, Any]:
    """Seconds until our page and MLflow's answer, and the peak of the memory; the first start makes the databases."""
    ours, mlflows, peaks = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(count):
            begin = time.perf_counter()
            with _server(Path(scratch)) as (process, port), _memory(process.pid) as peak:
                _until(port, "/dynafront/")
                ours.append(time.perf_counter() - begin)
                _until(port, "/")
                mlflows.append(time.perf_counter() - begin)
                for path in ("/dynafront/study", f"{API}studies", f"{API}openapi.json"):
                    _asked(port, path)
            peaks.append(peak[0] / 2**20)
    return {"n": count, "seconds": ours, "mlflow_seconds": mlflows, "peak_pss_mb": peaks}


def watched(pairs: int, clients: int, trials: int) -> dict[str, Any]:
    """Seconds of a search with nobody watching and with clients, in an order that alternates."""
    ratios, alone, polled, answers, shares = [], [], [], [], []
    for pair in range(pairs):
        seconds = {}
        for watching in (False, True) if pair % 2 == 0 else (True, False):
            count = clients if watching else 0
            seconds[watching], cpu, found = _searched(pair, count, trials)
            answers += found
            if watching:
                shares.append(cpu / seconds[watching])
        alone.append(seconds[False])
        polled.append(seconds[True])
        ratios.append(seconds[True] / seconds[False])
    return {
        "n": pairs,
        "clients": clients,
        "alone_seconds": alone,
        "watched_seconds": polled,
        "ratios": ratios,
        "server_cores": shares,
        "answers": len(answers),
        "answer_ms": {
            "median": 1e3 * statistics.median(answers),
            "p95": 1e3 * statistics.quantiles(answers, n=20)[-1],
        },
    }


def _searched(seed: int, clients: int, trials: int) -> tuple[float, float, list[float]]:
    """(seconds of a search; CPU seconds of the server, and of each answer to the clients, while it ran)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, over, answers = Path(scratch), threading.Event(), list[float]()
        (folder / "study.yml").write_text(STUDY.format(trials=trials, seed=seed))
        with _server(folder) as (process, port):
            _until(port, "/")
            (server,) = _descendants(process.pid)
            threads = [
                threading.Thread(target=_poll, args=(port, over, answers)) for _ in range(clients)
            ]
            for thread in threads:
                thread.start()
            begin, before = time.perf_counter(), _cpu(server)
            command = [sys.executable, "-m", "search.cli", "search", "study.yml", "--workers", "1"]
            subprocess.run(command, cwd=folder, env=_environment(), check=True, capture_output=True)
            seconds, cpu = time.perf_counter() - begin, _cpu(server) - before
            over.set()
            for thread in threads:
                thread.join()
        return seconds, cpu, answers


def _poll(port: int, over: threading.Event, answers: list[float]) -> None:
    """Ask as the page does until it is over, each client at moments of its own."""
    tags: dict[str, str] = {}
    over.wait(random.random() * POLL_SECONDS)
    while not over.is_set():
        for path in POLLED:
            begin = time.perf_counter()
            with suppress(OSError, http.client.HTTPException):
                tag = _asked(port, f"{API}{path}?study=watched", tags.get(path))
                answers.append(time.perf_counter() - begin)
                if tag:
                    tags[path] = tag
        over.wait(POLL_SECONDS)


@contextmanager
def _server(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`dynafront ui` on this folder, which may not answer yet, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "search.cli", "ui", "--no-browser", "--port", str(port)]
    process = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=subprocess.DEVNULL)
    try:
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[1])
    return os.environ | {"PYTHONPATH": root, "MLFLOW_DISABLE_TELEMETRY": "true"}


def _asked(port: int, path: str, tag: str | None = None) -> str | None:
    """The tag of an answer, which is read to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={"If-None-Match": tag} if tag else {})
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("ETag")
    finally:
        connection.close()


def _until(port: int, path: str) -> None:
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        with suppress(OSError):
            _asked(port, path)
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing answers at {path} for {PATIENCE:.0f} s")


@contextmanager
def _memory(process: int) -> Iterator[list[int]]:
    """The peak of the memory of a process and its descendants in bytes, once the block is left."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            peak[0] = max(peak[0], sum(map(_pss, [process, *_descendants(process)])))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _descendants(process: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _cpu(process: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss(process: int) -> int:
    """Bytes, with a share of what several processes have in common; 0 for one that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _text(found: dict[str, Any]) -> str:
    lines = [f"{found['machine']}, load {found['load_before']:.1f} before"]
    if one := found.get("starts"):
        ours, mlflows = one["seconds"], one["mlflow_seconds"]
        lines += [
            f"until dynafront ui answers: {_spread(ours)} s (goal {GOALS['start_seconds']:.0f})",
            f"until MLflow's own pages answer: {_spread(mlflows)} s",
            f"peak memory, PSS: {_spread(one['peak_pss_mb'])} MB (goal {GOALS['pss_mb']:.0f})",
        ]
    if one := found.get("watched"):
        lines += [
            f"a search with {one['clients']} who watch, to one with nobody: {_spread(one['ratios'], 3)} times "
            f"as long (goal {1 + GOALS['slower']:.2f})",
            f"the server's own work for them: {_spread(one['server_cores'], 3)} of a core",
            "answers to them: median {median:.0f} ms, 95 % within {p95:.0f} ms".format(
                **one["answer_ms"]
            ),
        ]
    return "\n".join(lines)


def _spread(values: list[float], digits: int = 1) -> str:
    low, high = min(values), max(values)
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}, n = {len(values)})"


if __name__ == "__main__":
    main()
