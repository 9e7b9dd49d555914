"""Kills at random moments: of a search's driver, of a worker, of both at once, of what runs beside them."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import suppress

import psutil

from benchmarks.launcher import LOG, Search, database_of
from search.run.publisher_process import MANY
from search.run.watch import kernel_kills
from storage.records import State
from storage.store import Store

# a late driver was held up before it is killed, so that it has not read several epochs of its workers;
# beside them run processes that write to Optuna and to MLflow, where there are many workers
DRIVER, WORKER, BOTH, LATE, BESIDE = "driver", "worker", "both", "late driver", "beside"
KINDS = DRIVER, WORKER, BOTH, LATE, BESIDE
LATE_SECONDS = 2.0, 5.0  # that a driver is held up
MOST_DEATHS, MOST_LOSSES = 1, 5  # of a training in one epoch; it fails after three, and ten
IS_WORKER = re.compile(r"worker \d+ is process (\d+),")  # in the log
LONGEST = 600.0  # seconds that a victim, or the end, is waited for


def kinds_here(workers: int) -> tuple[str, ...]:
    """What can be killed of a search with so many workers: a worker must be told from one that had no memory."""
    if not workers or kernel_kills() is None:
        return (DRIVER,)
    return KINDS if workers > MANY else KINDS[:4]


def workers_of(search: Search) -> list[psutil.Process]:
    """Its processes that train now."""
    started = {int(pid) for pid in IS_WORKER.findall((search.folder / LOG).read_text())}
    return [process for process in _forks(search) if process.pid in started]


def beside(search: Search) -> list[psutil.Process]:
    """Its processes that follow it: they write to Optuna and to MLflow."""
    workers = workers_of(search)
    return [process for process in _forks(search) if process not in workers]


def _forks(search: Search) -> list[psutil.Process]:
    """What the driver's server of processes has forked."""
    found = []
    with suppress(psutil.Error):
        for server in psutil.Process(search.pid).children():
            with suppress(psutil.Error):
                found += server.children()
    return found


def kill(search: Search, kind: str, draw: random.Random) -> bool:
    """Kill it now; False where there is no such process any more."""
    if kind == DRIVER:
        return search.kill()
    victims = beside(search) if kind == BESIDE else workers_of(search)
    if not victims:
        return False
    if kind == LATE:
        os.kill(search.pid, signal.SIGSTOP)
        time.sleep(draw.uniform(*LATE_SECONDS))
        return search.kill()
    with suppress(psutil.NoSuchProcess):
        draw.choice(victims).kill()
        return search.kill() if kind == BOTH else True
    return False


def killed_until_done(
    search: Search, kinds: list[str], draw: random.Random, seconds: float
) -> Counter[str]:
    """Go on with the search to its end, by the same command each time, with these kills, at moments up to so many
    seconds apart. Returns those that happened, which are taken from `kinds`, the last one first.

    Raises RuntimeError where a search ends with an error.
    """
    done: Counter[str] = Counter()
    store = Store.open(database_of(search.folder))
    while (code := _moment(search, kinds[-1:], draw, seconds, store)) is None:
        if not kill(search, kinds[-1], draw):
            continue
        kind = kinds.pop()
        done[kind] += 1
        if kind in (DRIVER, BOTH, LATE):
            search = search.again()
    store.close()
    if code == 0 and done[BESIDE]:  # the next search writes what is missing
        code = search.again().ended(LONGEST)
    if code != 0:
        raise RuntimeError(f"exit code {code}: {(search.folder / LOG).read_text()}")
    return done


def _moment(
    search: Search, kinds: list[str], draw: random.Random, seconds: float, store: Store
) -> int | None:
    """Wait for a random moment for such a kill; its exit code where it ends before, as it must where there is none."""
    until, kind = time.monotonic() + LONGEST, kinds[0] if kinds else None
    if kind is None and (code := search.ended(LONGEST)) is not None:
        return code
    while time.monotonic() < until:
        if (code := search.ended(0.1)) is not None:
            return code
        if kind and _is_fair(store) and _is_there(search, kind):
            return search.ended(draw.uniform(0.0, seconds))
    raise RuntimeError(f"it goes on for ever, kill: {kind}: {(search.folder / LOG).read_text()}")


def _is_there(search: Search, kind: str) -> bool:
    if kind == DRIVER:
        return True
    return bool(beside(search) if kind == BESIDE else workers_of(search))


def _is_fair(store: Store) -> bool:
    """Whether no training comes near to being given up, because it was killed too often in one epoch."""
    running = store.trials("killed", state=State.RUNNING) if store.find_study("killed") else []
    ends = [store.attempts.ends("killed", one.kind, one.number) for one in running]
    return all(one.died <= MOST_DEATHS and one.lost <= MOST_LOSSES for one in ends)
