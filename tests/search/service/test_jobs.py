"""Jobs as processes: one that ends, one that is ended, one that dies, one that outlives its server."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from search.service.jobs import LOG, SILENT_SECONDS, START_SECONDS, JobQueue, held
from search.service.routes import API
from storage.records import JobRecord, JobState
from storage.settings import Settings
from storage.store import Store
from tests.search.conftest import TINY
from tests.search.service.test_actions import client_of, told

LONG = TINY.replace("epochs: 2", "epochs: 500").replace("study: tiny", "study: long")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")


@pytest.fixture
def queue(store: Store, tmp_path: Path) -> JobQueue:
    return JobQueue(store, Settings.model_validate({"storage": {"folder": tmp_path}}))


@pytest.fixture
def client(store: Store, tmp_path: Path) -> Iterator[FlaskClient]:
    yield client_of(store, tmp_path)
    for job in store.jobs.open_jobs():
        if job.pid:
            os.kill(job.pid, signal.SIGKILL)


def read(client: FlaskClient, path: str, **query: Any) -> Any:
    answer = client.get(f"{API}/{path}", query_string=query)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def until(client: FlaskClient, job: int, done: Callable[[Any], bool], seconds: float = 120) -> Any:
    """The job, once it is as wanted."""
    deadline = time.monotonic() + seconds
    while not done(found := read(client, "job", id=job)):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def ended(job: Any) -> bool:
    return job["state"] not in ("queued", "running")


@pytest.mark.slow
def test_a_point_becomes_a_model_on_disk(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished / "dynafront-data", tmp_path / "data"))
    client = client_of(Store.open(f"sqlite:///{folder / 'dynafront.db'}"), folder)
    point = read(client, "points", study="tiny")["front"][0]["id"]
    job = told(client, "export", 202, study="tiny", point=point)["job"]
    exported = until(client, job["id"], ended)
    assert exported["state"] == "done", exported["log"]
    assert exported["log"][0] == f"$ {job['command']}"
    assert not list((folder / "jobs").rglob("settings.json")), "it may hold a password"
    found = read(client, "export", study="tiny", id=exported["result"]["export"])
    assert found["point"] == point
    assert found["rows"][0][0].startswith("accuracy")
    assert any(row[0].startswith("latency, batch 1") for row in found["rows"])
    assert found["card"].startswith("# tiny")
    assert found["folder"] in dict(found["uses"])["In Python"]
    program: dict[str, Any] = {}
    exec(dict(found["uses"])["With ONNX Runtime alone"], program)
    assert program["logits"].shape == (1, 10)
    with client.get(f"{API}/download?study=tiny&id={found['id']}") as zipped:
        names = zipfile.ZipFile(io.BytesIO(zipped.data)).namelist()
    assert f"tiny-point-{point}/model.onnx" in names
    assert len(names) == len(found["files"]) == 4


SERVER = """
import sys
from search.service.actions import Actions
from search.service.jobs import JobQueue
from storage.settings import Settings
from storage.store import Store

settings = Settings.model_validate({"storage": {"folder": sys.argv[1]}})
store = Store.open(settings.database_url)
actions = Actions(store, settings, JobQueue(store, settings))
print(actions.run("/launch", {"text": sys.argv[2], "workers": 0})["job"]["id"])
"""


@pytest.mark.slow
def test_a_search_outlives_its_server_is_stopped_resumed_and_failed_once_it_dies(
    client: FlaskClient, store: Store, tmp_path: Path
) -> None:
    server = [sys.executable, "-c", SERVER, str(tmp_path), LONG]
    printed = subprocess.run(server, capture_output=True, text=True, check=True).stdout
    job = int(printed)
    until(client, job, lambda found: ended(found) or _epochs(store) > 0)
    assert read(client, "job", id=job)["state"] == "running"
    assert told(client, "stop", 200, study="long") == {"stopped": True, "command": "Ctrl-C"}
    stopped = until(client, job, ended)
    assert stopped["state"] == "cancelled"
    assert any("Nothing is lost" in line for line in stopped["log"])
    kept = _epochs(store)
    assert kept
    assert read(client, "study", study="long")["state"].startswith("interrupted")
    again = told(client, "resume", 202, study="long", workers=0)["job"]["id"]
    until(client, again, lambda found: ended(found) or _epochs(store) > kept)
    assert _epochs(store) > kept
    os.kill(store.jobs.job(again).pid, signal.SIGKILL)
    dead = until(client, again, ended, 20)
    assert dead["state"] == "failed"
    assert dead["error"].startswith("its process is gone; the last line of its log: ")


def _epochs(store: Store) -> int:
    if store.find_study("long") is None:
        return 0
    return sum(len(store.epochs("long", t.kind, t.number)) for t in store.trials("long"))


@pytest.mark.slow
def test_a_command_that_fails_is_a_failed_job_with_its_complaint(
    client: FlaskClient, store: Store, queue: JobQueue
) -> None:
    job = queue.submit("delete", "nosuch", lambda _: ["delete", "nosuch", "--yes"])
    found = until(client, job.id, ended)
    assert found["state"] == "failed"
    assert found["error"].startswith("there is no study nosuch")


def running(queue: JobQueue, pid: int | None) -> int:
    """A job that runs as far as the tables know."""
    queue._start = lambda job: None  # type: ignore[method-assign]
    job = queue.submit("export", "s", lambda _: ["export", "s"])
    if pid:
        queue.store.jobs.begin(job.id, pid)
    return job.id


def test_a_job_is_dead_once_nothing_holds_its_lock(queue: JobQueue) -> None:
    job = running(queue, os.getpid())
    folder = queue.folder(queue.job(job))
    (folder / LOG).write_text("measuring\n\npostgresql://me:secret@host/x went away\n")
    with held(folder).acquire():
        queue.refresh()
        assert queue.job(job).state is JobState.RUNNING
    queue.refresh()
    assert queue.job(job).state is JobState.FAILED
    assert "secret" not in str(queue.job(job).error)
    assert "went away" in str(queue.job(job).error)


def test_a_job_that_never_began_or_fell_silent_elsewhere_is_failed(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(queue, None)
    queue.refresh()
    assert queue.job(job).state is JobState.RUNNING
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + START_SECONDS + 1)
    queue.refresh()
    assert queue.job(job).state is JobState.FAILED
    monkeypatch.setattr(time, "time", lambda: now)
    other = JobQueue(queue.store, queue.settings)
    other.host = "elsewhere"
    far = running(other, 7)
    queue.refresh()
    assert queue.job(far).state is JobState.RUNNING
    with pytest.raises(ValueError, match="cancel it from the server there"):
        queue.cancel(queue.job(far))
    monkeypatch.setattr(time, "time", lambda: now + SILENT_SECONDS + 1)
    queue.refresh()
    assert queue.job(far).state is JobState.FAILED


def test_the_files_of_old_jobs_go_with_them(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue._start = lambda job: None  # type: ignore[method-assign]
    monkeypatch.setattr("search.service.jobs.KEPT", 1)
    first = queue.submit("delete", "s", lambda _: ["delete", "s"])
    queue.store.jobs.finish(first.id, JobState.DONE)
    second = queue.submit("delete", "s", lambda _: ["delete", "s"])
    assert not queue.folder(first).exists()
    assert queue.folder(second).exists()


def test_what_may_not_run_yet_runs_once_it_may(queue: JobQueue) -> None:
    started: list[int] = []
    queue._start = lambda job: started.append(job.id)  # type: ignore[method-assign]
    first, second = (queue.submit("search", name, lambda _: ["search"]) for name in "st")
    assert (queue.job(first.id).state, queue.job(second.id).state) == ("running", "queued")
    queue.refresh()
    assert started == [first.id]
    queue.store.jobs.finish(first.id, JobState.DONE)
    JobQueue.refresh(queue)
    assert started == [first.id, second.id]


def submitted(queue: JobQueue, kinds: list[str]) -> list[str]:
    """The states of jobs of these kinds, each of a study of its own."""
    queue._start = lambda job: None  # type: ignore[method-assign]
    found = [queue.submit(kind, f"s{i}", lambda _: ["x"]) for i, kind in enumerate(kinds)]
    return [str(queue.job(job.id).state) for job in found]


def test_as_many_searches_run_at_once_as_the_settings_say(store: Store, tmp_path: Path) -> None:
    given = {"storage": {"folder": tmp_path}, "server": {"searches": 2}}
    queue = JobQueue(store, Settings.model_validate(given))
    assert submitted(queue, ["search"] * 3) == ["running", "running", "queued"]


def test_two_other_jobs_run_beside_the_searches(queue: JobQueue) -> None:
    kinds = ["search", "export", "delete", "register", "search"]
    assert submitted(queue, kinds) == ["running", "running", "running", "queued", "queued"]


def test_the_fifty_first_job_that_waits_is_refused_and_leaves_no_folder(queue: JobQueue) -> None:
    submitted(queue, ["search"] * 50)
    with pytest.raises(ValueError, match=r"^50 jobs wait or run already; cancel some"):
        queue.submit("search", "one more", lambda _: ["x"])
    assert len(list((queue.settings.folder / "jobs").iterdir())) == 50


def test_the_newest_five_hundred_are_kept(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    def forget(most: int) -> list[JobRecord]:
        kept.append(most)
        return []

    monkeypatch.setattr(queue.store.jobs, "forget", forget)
    submitted(queue, ["export"])
    assert kept == [500]


def test_two_servers_of_one_folder_start_each_job_once(queue: JobQueue, store: Store) -> None:
    started: list[int] = []
    other = JobQueue(store, queue.settings)
    for one in (queue, other):
        one._start = lambda job: started.append(job.id)  # type: ignore[method-assign]
    first = queue.submit("export", "s", lambda _: ["x"])
    second = other.submit("export", "t", lambda _: ["x"])
    waiting = queue.submit("export", "u", lambda _: ["x"])
    store.jobs.finish(first.id, JobState.DONE)
    with ThreadPoolExecutor(2) as servers:
        list(servers.map(lambda one: one.start_waiting(), (queue, other)))
    assert started == [first.id, second.id, waiting.id]
