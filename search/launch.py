"""Opening a study: check the file against what is stored, take the lease, put driver, engine and publisher together."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import optuna
import torch
from rich.console import Console

from search.driver import Driver
from search.engine import Engine, InProcess, LocalProcesses
from search.front import Reference, box_of
from search.limits import limit_of
from search.plain_nets import epochs_of, recommended, warm
from search.progress import Progress
from search.publish import Publisher
from search.sampling import Thinker
from search.sizes import largest, plain_size, shapes, sizes
from search.study import OptunaStudy
from search.study_file import BEFORE, StudySpec, narrowed_spaces
from search.trial import data_spec, loaded, task_of
from spaces.family import Candidate
from spaces.registry import family
from spaces.task import Task
from storage.creation import creating
from storage.errors import StorageError
from storage.settings import Settings
from storage.store import Store
from trainers.initial import start_from

LEASE_SECONDS = 60.0
FREE_TO_CHANGE = ("budget", "run", "data_root", "region", "limits", "early_stopping")  # of a study that exists


@dataclass(frozen=True)
class Finished:
    """How a session with a study ended."""

    complete: bool  # the budget's trials are all done, or the front grows no more
    plateau: bool
    trials: int
    points_on_front: int


def search(spec: StudySpec, text: str, settings: Settings, console: Console, *, workers: int, ladder: bool) -> Finished:
    """Run the study until its budget is spent; the same call goes on with one that was interrupted.

    Raises ValueError for what a person can put right. KeyboardInterrupt passes through with everything stored.
    """
    task = task_of(loaded(data_spec(spec)))
    spaces = narrowed_spaces(spec)
    if ladder and spec.init_from:
        raise ValueError("--ladder: the ladder's other sizes have no weights to start from; leave out init_from or it")
    check_candidates(spec, spaces, task)
    settings.folder.mkdir(parents=True, exist_ok=True)
    store = Store.open(settings.database_url)
    spec, values, reference = _recorded(store, spec, text, reference_of(spaces, task))
    with leased(store, spec.study) as lease:
        store.set_spec(spec.study, values, text)
        with creating(settings.optuna_url):
            storage = optuna.storages.RDBStorage(settings.optuna_url)
        asked = opened_study(storage, store, spec, task, reference)
        engine: Engine = LocalProcesses(workers) if workers else InProcess()
        with Progress(console, spec.study, spec.budget.trials, max(1, workers)) as progress:
            publisher = Publisher(store, settings, spec, progress.say)
            driver = Driver(
                spec=spec,
                store=store,
                optuna=asked,
                engine=engine,
                progress=progress,
                follower=publisher,
                reference=reference,
                checkpoints=str(settings.checkpoints),
                ladder=ladder,
                ours=lambda: not lease.lost,
            )
            publisher.start()
            try:
                complete = driver.run()
            finally:
                publisher.close()
    return Finished(complete, driver.plateau, asked.asked(), len(driver.front))


def opened_study(
    storage: optuna.storages.BaseStorage, store: Store, spec: StudySpec, task: Task, reference: Reference
) -> OptunaStudy:
    """The study on Optuna's side, made or brought in line with our tables."""
    thinker = Thinker(
        narrowed_spaces(spec),
        spec.sampler,
        costs=len(spec.costs),
        seed=spec.seed,
        epochs=partial(epochs_of, spec),
        trials=spec.budget.trials,
        starts=spec.starting_points,
        limit=limit_of(spec, task),
        size=plain_size(task, box_of(reference, spec.costs), spec.costs),
        full=(lambda _: spec.budget.epochs) if any(warm(spec, name) for name in spec.families) else None,
    )
    metrics = ("accuracy", *("cost" if len(spec.costs) == 1 else name for name in spec.objectives[1:]))
    return OptunaStudy(storage, spec.study, thinker, metrics=metrics, stored=store.trials(spec.study, kind="search"))


def check_candidates(spec: StudySpec, spaces: Any, task: Task) -> None:
    """Build one network of each family, so that what no trial could do is said before anything is written."""
    for name, space in spaces.items():
        own = family(name)
        values = recommended(space)
        try:
            candidate = Candidate.of(own, values, spec.budget.epochs)
            if not (source := spec.initial(name)):
                shapes(candidate, task)
                continue
            for size in sizes(own, space):
                one = Candidate.of(own, values | size, spec.budget.epochs)
                with torch.device("meta"):
                    plain = own.build(one.plain().config, task)
                start_from(one.build(task, spec.seed), source, plain.state_dict())
        except ValueError as error:
            key = "" if str(error).startswith("init_from") else f"space.{name}."
            raise ValueError(f"{key}{error}") from None


def reference_of(spaces: Any, task: Task) -> Reference:
    """Chance accuracy, and a tenth more MACs and parameters than the largest plain nets of the narrowed spaces have.

    The tenth lets the largest nets, whose gates come on top, still count for something.
    """
    macs, parameters = zip(*(largest(family(name), space, task) for name, space in spaces.items()), strict=True)
    return Reference(accuracy=1 / task.classes, macs=1.1 * max(macs), parameters=1.1 * max(parameters))


def _recorded(
    store: Store, spec: StudySpec, text: str, reference: Reference
) -> tuple[StudySpec, dict[str, Any], Reference]:
    """(the spec to search under, what is stored of it, the reference that the study began with), its study stored.

    A study from before some keys existed goes on as it was begun, each time: they stay out of what is stored.
    Raises ValueError when the file asks for something else by the study's name.
    """
    values, found = spec.model_dump(mode="json"), store.study(spec.study)
    if found is None:
        store.add_study(spec.study, values, text, asdict(reference))
        return spec, values, reference
    if old := {key: value for key, value in BEFORE.items() if key not in found.spec}:
        spec = spec.model_copy(update={**old, "sampler": found.spec["sampler"]})
        values = spec.model_dump(mode="json")
    for key, value in values.items():
        if key in FREE_TO_CHANGE and not (key == "budget" and found.spec[key]["epochs"] != value["epochs"]):
            continue
        if key in found.spec and found.spec[key] != value:
            what = "budget.epochs" if key == "budget" else key
            raise ValueError(
                f"study {spec.study} exists with another {what}; its trials could not be compared. Give the file "
                f"another `study:` name, or restore {what} (budget, run, region, limits and early_stopping may change)"
            )
    kept = {key: value for key, value in values.items() if key not in old}
    return spec, kept, Reference(**found.reference)


class Lease:
    """The right to drive a study, renewed by a thread; `lost` once somebody else has taken it."""

    def __init__(self, store: Store, name: str, owner: str) -> None:
        self.lost = False
        self._store, self._name, self._owner = store, name, owner
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._store.release_lease(self._name, self._owner)

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 4):
            try:
                self.lost = not self._store.renew_lease(self._name, self._owner, LEASE_SECONDS)
            except StorageError:
                continue  # the database is away; there are three more tries before the lease ends


@contextmanager
def leased(store: Store, name: str) -> Iterator[Lease]:
    """Be the only driver of the study; a driver on this machine that died is replaced at once."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    if not store.take_lease(name, owner, LEASE_SECONDS):
        record = store.study(name)
        assert record is not None
        holder = record.owner or ""
        if not _dead_here(holder):
            host, pid = [*holder.split(":"), "?", "?"][:2]
            raise ValueError(
                f"study {name} is being searched by process {pid} on {host}; watch it with `dynafront status {name}`"
            )
        store.release_lease(name, holder)
        if not store.take_lease(name, owner, LEASE_SECONDS):
            raise ValueError(f"study {name} was just taken up by another process; see `dynafront status {name}`")
    lease = Lease(store, name, owner)
    try:
        yield lease
    finally:
        lease.release()


def _dead_here(owner: str) -> bool:
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
