"""A study of several machines, which share a PostgreSQL and an S3, with folders, homes and names of their own.

Where the kernel allows it, each has a network of its own too, in which there is nothing but these two servers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import insert

from benchmarks.crashes import STUDY, new_folder
from benchmarks.launcher import FILE, LOG, Launcher
from search.run.jobs import job_of
from search.run.lease import is_driven, lease
from search.run.worker import trained_net
from search.spec import parse_study
from storage.errors import StorageError, StudyExistsError
from storage.kept_files import checkpoint_store
from storage.records import Kind, State
from storage.rows import utc_now
from storage.store import Store
from storage.tables import STUDIES
from tests.own_network import may_have_one
from tests.postgres import Server, running_postgres
from tests.s3 import S3, running_s3

pytestmark = pytest.mark.slow
TEXT = STUDY.replace(
    "trials: 3, epochs: 6, warm_epochs: 3", "trials: 1, epochs: 8, warm_epochs: 8"
).replace("cascades: false\n", "")
LEASE_SECONDS = 12.0  # in place of a minute
KNOWN, LOST = 4, 2  # epochs before a machine dies; most of them that are trained again
TOLD = "told.txt"  # the epochs that trial 0 tells, a line each, in the folder of its machine
# another name, another home, and no way to look at processes of other machines
MACHINE = """
import os, socket, search.run.lease
socket.gethostname = lambda: {name!r}
os.environ["HOME"] = {home!r}
search.run.lease.LEASE_SECONDS = {seconds}
if {ports}:
    from tests.own_network import enter
    enter({ports})
from search.run.books import Books
def epochs(self, finished, write=Books.epochs):
    with open({told!r}, "a") as file:
        file.writelines(f"{{e.epoch}}\\n" for t, e in finished if t.name == ("search", 0))
    write(self, finished)
Books.epochs = epochs
"""
NETWORK = Path("/proc/self/ns/net")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_postgres() as found:
        yield found


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3() as found:
        yield found


@pytest.fixture(scope="module")
def launcher(s3: S3) -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


def machine(folder: Path, ports: Sequence[int]) -> str:
    """What a process does first that is to be one of the machine of this folder; servers at these ports are reached."""
    home = str(folder / "home")
    return MACHINE.format(
        name=folder.name, home=home, seconds=LEASE_SECONDS, ports=list(ports), told=TOLD
    )


def epochs(store: Store) -> int:
    """How many epochs the tables know of the only trial."""
    if store.find_study("killed") is None or not store.find_trial("killed", Kind.SEARCH, 0):
        return 0
    return len(store.epochs("killed", Kind.SEARCH, 0))


def test_of_three_machines_one_drives_and_another_goes_on_where_it_died(
    launcher: Launcher, server: Server, s3: S3, tmp_path: Path
) -> None:
    places = {"database": server.new_database("machines"), "checkpoints": s3.url}
    folders = [new_folder(tmp_path, name, TEXT, **places) for name in ("one", "two", "three")]
    store = Store.open(places["database"])
    ports = [server.port, s3.port] if may_have_one() else []
    before = {one: machine(one, ports) for one in folders}
    waiting = [launcher.search(one, "--workers", "0", before=before[one]) for one in folders]
    until = time.monotonic() + 300
    while (len(waiting) > 1 or epochs(store) < KNOWN) and time.monotonic() < until:
        waiting = [search for search in waiting if search.ended(0.05) is None]
    (driver,) = waiting
    network = Path(f"/proc/{driver.pid}/ns/net")
    assert (network.readlink() != NETWORK.readlink()) == bool(ports)
    others = [one for one in folders if one != driver.folder]
    line = (
        f"Error: study killed is being searched by process {driver.pid} on {driver.folder.name}; "
        "watch it with `dynafront status killed`"
    )
    for one in others:
        assert (one / LOG).read_text().rstrip().endswith(line)
    driver.kill()
    known = epochs(store)
    assert known >= KNOWN
    shutil.move(driver.folder, tmp_path / "gone")
    assert is_driven(store.study("killed")), "nobody else can know yet that it is dead"
    time.sleep(LEASE_SECONDS)
    assert not is_driven(store.study("killed"))
    next_one = others[0]
    search = launcher.search(next_one, "--workers", "0", before=before[next_one])
    assert search.ended(600) == 0, (next_one / LOG).read_text()
    said = (next_one / LOG).read_text()
    assert "sign of life" not in said
    assert "trained again" not in said
    first = int(
        (next_one / TOLD).read_text().split()[0]
    )  # the last one of the checkpoint that it had
    assert known - first <= LOST, said
    assert {t.state for t in store.trials("killed")} == {State.COMPLETE}
    third = next(one for one in others if one != next_one)
    own = checkpoint_store(third / "dynafront-data" / "checkpoints", s3.url)
    assert len(own.stored("killed")) == 4, "two checkpoints, and two files of answers"
    spec = parse_study(TEXT, FILE)
    for kind in (Kind.BASELINE, Kind.SEARCH):
        trial = store.trial("killed", kind, 0)
        net, _, _ = trained_net(job_of(spec, trial, str(own.folder), store=s3.url))
        assert not net.training
    store.close()


def test_a_study_that_two_processes_add_at_once_is_the_first_ones(server: Server) -> None:
    url = server.new_database("at_once")
    one, two = Store.open(url), Store.open(url)
    with ThreadPoolExecutor(1) as thread, one._database.writing() as connection:
        connection.execute(
            insert(STUDIES).values(
                name="s",
                spec={},
                text="first",
                reference={},
                seconds_spent=0.0,
                created_at=utc_now(),
            )
        )
        second = thread.submit(two.add_study, "s", {}, "second", {})
        with pytest.raises(TimeoutError):  # it waits for the first one's end
            second.result(0.5)
        connection.commit()
        with pytest.raises(StudyExistsError, match="study 's' exists already"):
            second.result(30)
    assert two.study("s").text == "first"
    two.add_study("t", {}, "", {})
    one.close()
    two.close()


@pytest.mark.parametrize("wrong", [-3600.0, 3600.0])
def test_leases_count_by_the_servers_clock_whatever_this_machines_says(
    server: Server, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    store, clock, said = Store.open(server.url), time.time, list[str]()
    store.add_study("s", {}, "", {})
    store.take_lease("s", "elsewhere:7:abc", 30)
    monkeypatch.setattr(time, "time", lambda: clock() + wrong)
    assert is_driven(store.study("s"))
    assert store.ask_to_stop("s")
    with pytest.raises(StorageError, match="was just taken up by another process"):
        store.delete_study("s")
    with pytest.raises(ValueError, match="process 7 on elsewhere"), lease(store, "s", said.append):
        pass
    store.take_lease("s", "elsewhere:7:abc:stop", -1)
    assert not is_driven(store.study("s"))
    assert not store.ask_to_stop("s")
    with lease(store, "s", said.append):
        assert is_driven(store.study("s"))
    assert said == []
    store.delete_study("s")
    store.close()
