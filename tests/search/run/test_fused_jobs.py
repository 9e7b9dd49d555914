"""Jobs that one process trains as one: who trains with whom, and that what becomes of one is its own."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search.engine_keys import check_engine, on_engine
from search.run.checkpoint import Slot
from search.run.engine import engine_for
from search.run.gpu_room import WHOLE
from search.run.group import events_together, kind_of
from search.run.held_jobs import PATIENCE, HeldJobs
from search.run.job import EpochResult, Event, Failure, Job, Outcome, Rung, Waits
from search.run.local_processes import LocalProcesses
from search.run.watch import TrialLimits
from search.run.worker import events
from search.spec import parse_study
from search.study_parts import Run
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from tests.search.run.jobs import drained, job, kinds
from trainers.data.splits import DataSpec
from trainers.fit import net_tensors
from trainers.latency import torch_threads
from trainers.stacked import Stack

NUMBERS: tuple[dict[str, Any], ...] = (
    {"target": 0.3, "lr": 0.02},
    {"target": 0.7, "loss_weight": 4.0},
    {"target": 0.5, "loss": "mac_quad", "lr": 0.1},
)


def alike(folder: Path, epochs: int = 2, **values: Any) -> list[Job]:
    return [
        job(folder, number, epochs, **numbers | values) for number, numbers in enumerate(NUMBERS)
    ]


def weights(one: Job) -> dict[str, torch.Tensor]:
    saved = Slot.of(one, Candidate.of(family(one.family), one.params, one.epochs)).load()
    assert saved is not None
    return net_tensors(saved[0])


def of(found: list[tuple[Job, Event]], one: Job) -> list[Event]:
    return [event for its, event in found if its.name == one.name]


@pytest.mark.slow
def test_jobs_of_one_kind_run_as_one_and_report_what_each_reports_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, outputs = list[int](), Stack.outputs

    def counted(stack: Stack, *given: Any) -> Any:
        sizes.append(len(stack.nets))
        return outputs(stack, *given)

    monkeypatch.setattr(Stack, "outputs", counted)
    together, alone = alike(tmp_path / "together"), alike(tmp_path / "alone")
    found = list(events_together(together))
    assert sizes == [3] * 6, "three steps an epoch"
    assert not any(isinstance(event, Waits) for _, event in found)
    for one, other in zip(together, alone, strict=True):
        mine, expected = of(found, one), list(events(other))
        assert [type(event) for event in mine] == [type(event) for event in expected]
        assert [e.epoch for e in mine if isinstance(e, EpochResult)] == [1, 2]
        there = weights(other)
        for name, tensor in weights(one).items():
            assert torch.allclose(tensor.double(), there[name].double(), atol=1e-4), name
        last, same = mine[-1], expected[-1]
        assert isinstance(last, Outcome)
        assert isinstance(same, Outcome)
        pairs = zip(last.points, same.points, strict=True)
        assert all(abs(a.accuracy - b.accuracy) < 0.1 for a, b in pairs)


@pytest.mark.slow
def test_one_that_is_stopped_at_a_rung_ends_alone(tmp_path: Path) -> None:
    jobs = [replace(one, rungs=(1,)) for one in alike(tmp_path)]
    found, running, goes_on = list[tuple[Job, Event]](), events_together(jobs), None
    while True:
        try:
            found.append(running.send(goes_on))
        except StopIteration:
            break
        rung = isinstance(found[-1][1], Rung)
        goes_on = found[-1][0].number != 1 if rung else None
    for one in jobs:
        told = [type(e) for e in of(found, one) if isinstance(e, EpochResult | Rung | Outcome)]
        rest = [] if one.number == 1 else [EpochResult, Outcome]
        assert told == [EpochResult, Rung, *rest]


@pytest.mark.slow
def test_each_trains_with_its_own_threads_also_after_another_one_has_ended(tmp_path: Path) -> None:
    jobs = [replace(one, threads=1) for one in alike(tmp_path)]
    jobs[0] = replace(jobs[0], data=DataSpec(source=f"folder:{tmp_path / 'nowhere'}"))
    jobs[1] = replace(jobs[1], rungs=(1,))
    used, running, goes_on = list[int](), events_together(jobs), None
    with torch_threads(2):
        while True:
            try:
                _, event = running.send(goes_on)
            except StopIteration:
                break
            if not isinstance(event, Failure):  # after which it trains no more
                used.append(torch.get_num_threads())
            goes_on = False if isinstance(event, Rung) else None
        assert torch.get_num_threads() == 2, "as before"
    assert len(used) > 4
    assert set(used) == {1}


@pytest.mark.slow
def test_one_that_cannot_be_trained_fails_alone(tmp_path: Path) -> None:
    jobs = alike(tmp_path)
    jobs[0] = replace(jobs[0], data=DataSpec(source=f"folder:{tmp_path / 'nowhere'}"))
    found = list(events_together(jobs))
    assert [type(of(found, one)[-1]) for one in jobs] == [Failure, Outcome, Outcome]


@pytest.mark.slow
@pytest.mark.parametrize("error", ["no batching rule", "DefaultCPUAllocator: not enough memory"])
def test_what_fails_for_all_is_no_word_against_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(Stack, "outputs", broken)
    failures = [event for _, event in events_together(alike(tmp_path))]
    assert [type(one) for one in failures] == [Failure] * 3
    for one in failures:
        assert isinstance(one, Failure)
        assert error in one.error
        assert (one.crashed, one.memory) == (True, False), "each is tried alone, beside others"


@pytest.mark.slow
def test_when_their_process_is_killed_each_goes_on_alone_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    engine = LocalProcesses(1, fused=3)
    assert engine.slots == 3
    jobs = alike(tmp_path, epochs=30)
    try:
        for one in jobs:
            engine.submit(one)
        seen: dict[int, int] = {}
        while len(seen) < 3:
            found = engine.next_event(60)
            if found and isinstance(found[1], EpochResult):
                seen[found[0].number] = found[1].epoch
        worker = engine._workers[0]
        assert worker is not None
        assert worker.process.pid is not None
        os.kill(worker.process.pid, signal.SIGKILL)
        ends = [one for one in drained(engine, 3) if isinstance(one[1], Failure)]
        assert sorted(its.number for its, _ in ends) == [0, 1, 2]
        assert all(isinstance(e, Failure) and e.crashed and (e.epoch or 0) > 1 for _, e in ends)
        again = [replace(one, reached=seen[one.number]) for one in jobs]
        assert [kind_of(one) for one in again] == [None] * 3
        engine.submit(again[2])
        first = engine.next_event(60)
        assert first is not None
        assert isinstance(first[1], EpochResult)
        assert first[1].epoch >= seen[2]
    finally:
        engine.close()


@pytest.mark.slow
def test_a_limit_is_of_the_group(tmp_path: Path) -> None:
    engine = LocalProcesses(1, TrialLimits(seconds=6.0), fused=3)
    jobs = alike(tmp_path, epochs=10_000)
    try:
        for one in jobs:
            engine.submit(one)
        ends = [event for _, event in drained(engine, 3) if isinstance(event, Failure)]
        assert len(ends) == 3
        assert {one.error for one in ends} == {ends[0].error}
        assert "run.trial_hours" in ends[0].error
        assert ends[0].error.endswith("with 3 trials that trained as one")
        assert all(one.crashed for one in ends), "each is tried alone"
    finally:
        engine.close()


@pytest.mark.slow
def test_one_with_a_checkpoint_takes_turns_with_the_others(tmp_path: Path) -> None:
    """Its driver was killed before it had read of it, so nobody knows."""
    jobs = alike(tmp_path, epochs=3)
    before = events(jobs[0])
    while not isinstance(next(before), EpochResult):
        pass
    before.close()
    found = events_together(jobs)
    order = [one.number for one, event in found if isinstance(event, EpochResult)]
    assert sorted(order) == [0, 0, 0, 1, 1, 1, 2, 2, 2], "its first is told again"
    others = [index for index, number in enumerate(order) if number]
    assert others[0] < max(index for index, number in enumerate(order) if not number)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"params": {"target": 0.9, "loss_weight": 9.0, "lr": 0.3, "warmup": 0.2}}, True),
        ({"params": {"width": 0.5}}, False),
        ({"params": {"batch": 16}}, False),
        ({"epochs": 3}, False),
        ({"seed": 5}, True),
        ({"execution": {"dtype": "bfloat16"}}, False),
        ({"data": DataSpec(source="digits", validation=0.3)}, False),
    ],
)
def test_jobs_that_differ_in_numbers_alone_are_of_one_kind(
    tmp_path: Path, change: dict[str, Any], same: bool
) -> None:
    one = job(tmp_path)
    other = replace(one, **change | {"params": {**one.params, **change.get("params", {})}})
    assert kind_of(one) is not None
    assert (kind_of(one) == kind_of(other)) is same


@pytest.mark.parametrize(
    "change",
    [
        {"alone": True},
        {"apart": True},
        {"reached": 1},
        {"micro_batch": 8},
        {"compile": True},
        {"gpus": 2},
        {"teacher": "a file"},
        {"precision": "float16"},
        {"gpu_bytes": WHOLE},
        {"execution": {"dtype": "float16"}},
        {"params": {"head_epochs": 2}},
        {"params": {"distill": 0.5}},
        {"family": "skip_vit", "params": {}},
        {"family": "gated_mobilenet", "params": {}},
    ],
)
def test_a_job_with_a_way_of_its_own_is_of_no_kind(tmp_path: Path, change: dict[str, Any]) -> None:
    one = job(tmp_path)
    params = dict(one.params) if "family" not in change else {}
    other = replace(one, **change | {"params": params | change.get("params", {})})
    assert kind_of(other) is None


def test_jobs_are_held_until_a_group_is_whole_or_nobody_comes(tmp_path: Path) -> None:
    now = [0.0]
    held = HeldJobs(2, lambda: now[0])
    assert held.patience == float("inf")
    assert held.ready(room=4) == []
    narrow, wide = alike(tmp_path), alike(tmp_path, width=0.5)
    held.add(narrow[0])
    held.add(wide[0])
    assert held.ready(room=4) == [], "the driver may bring others"
    held.add(narrow[1])
    assert held.ready(room=4) == narrow[:2]
    assert held.ready(room=2) == []
    assert held.ready(room=1) == wide[:1], "there is no room for others"
    held.add(wide[1])
    now[0] += PATIENCE - 0.25
    assert held.patience == pytest.approx(0.25)
    assert held.ready(room=4) == []
    now[0] += 0.25
    assert held.ready(room=4) == wide[1:2], "nobody came"
    held.add(replace(narrow[2], reached=1))
    assert len(held.ready(room=4)) == 1, "it waits for nobody"


@pytest.mark.slow
def test_one_job_begins_after_a_moment(tmp_path: Path) -> None:
    engine = LocalProcesses(1, fused=3)
    try:
        engine.submit(alike(tmp_path)[0])
        began = time.monotonic()
        assert engine.next_event(30) is None, "it may come back before that"
        assert time.monotonic() - began < 5
        assert kinds(drained(engine, 1)) == [EpochResult, EpochResult, Outcome]
    finally:
        engine.close()


def test_without_processes_there_is_nothing_to_fuse_in() -> None:
    with pytest.raises(ValueError, match=r"run.fused: 4: with 0 workers"):
        engine_for(0, Run(fused=4))


def test_check_and_search_refuse_what_needs_workers_before_anything_else() -> None:
    text = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 3, epochs: 1}\n"
    spec = parse_study(text + "run: {workers: 2, fused: 4}\n", "s.yml")
    assert on_engine(spec, None, None) is spec
    with pytest.raises(ValueError, match=r"run.fused: 4: with 0 workers"):
        on_engine(spec, None, 0)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"engine": "ray"}, "x.yml: run.fused: needs engine: local"),
        ({"compile": True}, "x.yml: run.fused: 2 does not go with compile: true"),
        ({"gpus_per_trial": 2}, "x.yml: run.fused: 2 does not go with gpus_per_trial: 2"),
    ],
)
def test_keys_that_do_not_go_with_it_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_engine(Run(fused=2, **keys), "x.yml")


def test_an_engine_that_is_none_is_refused_from_python_too() -> None:
    text = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 3, epochs: 1}\n"
    with pytest.raises(ValueError, match=r"engine: 'Ray' is none; choose from local, ray"):
        on_engine(parse_study(text, "s.yml"), "Ray", None)
