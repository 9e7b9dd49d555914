"""What a training needs of a GPU: measured once for each size, and what makes another size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import search.run.gpu_needs as needs_module
from search.run.data import load_data
from search.run.gpu_needs import GpuNeeds, held_bytes, measuring_for, train_a_little
from search.run.gpu_room import WHOLE
from search.run.job import Job
from search.run.local_processes import LocalProcesses
from search.run.mps import Mps
from search.run.number_formats import NumberFormats
from search.run.number_formats import Probe as FormatProbe
from spaces.contract.task import Task
from storage.store import Store
from tests.search.run.gpus import GB, Machine
from tests.search.run.jobs import PARAMS, job
from trainers.execution import Execution

TASK = Task(channels=1, height=8, width=8, classes=10)
LINEAR = {"backbone": "test_resnet", "dynamics": "exits", "exits": "linear", "batch": 32}


@dataclass
class Probe:
    """Finds so many bytes, or nothing."""

    peak: int | None = 2 * GB
    asked: int = 0

    def device(self, asked: str) -> str:
        return "cuda"

    def device_name(self, device: str) -> str:
        return "a GPU"

    def gpu_peak(self, job: Job) -> int | None:
        self.asked += 1
        return self.peak


def needs(store: Store, probe: Probe, said: list[str] | None = None) -> GpuNeeds:
    heard = [] if said is None else said
    return GpuNeeds(store.formats, "s", lambda: TASK, probe, lambda: GB // 2, heard.append)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(f"sqlite:///{tmp_path / 'db.sqlite'}")
    store.add_study("s", {}, "", {})
    return store


def test_what_a_size_needs_is_measured_once_and_kept(store: Store, tmp_path: Path) -> None:
    probe, said = Probe(), list[str]()
    one = job(tmp_path)
    assert needs(store, probe, said).of(one).gpu_bytes == round(1.1 * 2 * GB) + GB // 2
    again = Probe(peak=9 * GB)
    equal = job(tmp_path, target=0.3)
    assert needs(store, again).of(equal).gpu_bytes == round(1.1 * 2 * GB) + GB // 2
    assert (probe.asked, again.asked) == (1, 0)
    assert said[0].startswith("measuring the GPU memory of a training, once for each size: ")
    for other in (job(tmp_path, batch=64), job(tmp_path, granularity="layer")):
        needs(store, again).of(other)
    assert again.asked == 2, "another batch, and other gates"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"micro_batch": 8}),
        ({}, {"ema": 0.99}),
        ({}, {"kept_epoch": "best"}),
        ({}, {"momentum": 0.0}),
        ({}, {"distill": 0.5}),
        (LINEAR, LINEAR | {"trunk": "frozen"}),
    ],
)
def test_what_takes_memory_beside_the_network_is_another_size(
    store: Store, tmp_path: Path, one: dict[str, object], other: dict[str, object]
) -> None:
    probe = Probe()
    for values in (one, other, other):
        params, family = (values, "timm") if "backbone" in values else (PARAMS | values, None)
        asked = replace(job(tmp_path), params=params, family=family or "gated_resnet")
        needs(store, probe).of(asked)
    assert probe.asked == 2


def test_what_could_not_be_measured_has_a_gpu_to_itself_and_is_measured_again(
    store: Store, tmp_path: Path
) -> None:
    probe = Probe(peak=None)
    assert needs(store, probe).of(job(tmp_path)).gpu_bytes == WHOLE
    probe.peak = GB
    assert needs(store, probe).of(job(tmp_path)).gpu_bytes < 2 * GB
    assert probe.asked == 2


def test_a_training_needs_no_more_than_it_may_take(store: Store, tmp_path: Path) -> None:
    bounded = replace(job(tmp_path), gpu_memory=GB)
    assert needs(store, Probe()).of(bounded).gpu_bytes == GB + GB // 2


def test_the_probe_trains_real_steps_and_measures_as_many_images_as_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int, Execution]] = []
    real = needs_module.fit

    def fit(net, data, recipe, *, execution, teacher):
        seen.append((recipe.batch, len(data.train), len(data.validation), execution))
        yield from real(net, data, recipe, execution=execution, teacher=teacher)

    monkeypatch.setattr(needs_module, "fit", fit)
    train_a_little(replace(job(tmp_path), execution=Execution(threads=2).as_dict()), "cpu")
    assert seen == [(32, 64, 287, Execution())]


def test_images_that_a_training_keeps_on_the_gpu_count(tmp_path: Path) -> None:
    data = load_data(job(tmp_path).data)
    train, validation = 96 * 8 * 8, 287 * 8 * 8
    assert held_bytes(data, 10 * GB) == train + validation
    assert held_bytes(data, 2 * validation - 1) == train, "of the others there is too little room"
    assert held_bytes(data, 1000) == 0


def test_an_engine_that_closes_ends_the_process_that_measures(store: Store) -> None:
    class Closing(FormatProbe):
        closed = False

        def close(self) -> None:
            self.closed = True

    probe = Closing()
    engine = LocalProcesses(2, room=Machine().room(), mps=Mps())
    measuring_for(engine, NumberFormats(store.formats, "s", lambda: TASK, print, probe))
    engine.close()
    assert probe.closed
