"""What trainings answer to the validation images, kept for cascades."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import search.measure.member_answers as module
import search.run.worker as worker
from search.measure.member_answers import MemberAnswers, member_answers
from search.measure.operating_points import operating_points
from search.run.answer_files import read_answers, save_answers
from search.run.data import task_of
from search.run.job import Job, Outcome
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet, Output
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from storage.checkpoint_files import answers_file, training_files
from storage.records import Kind
from trainers.data.splits import DataSpec, load
from trainers.execution import Execution
from trainers.fit import fit
from trainers.logits import image_logits

PARAMS = {"backbone": "resnet8", "width": 0.25, "batch": 32, "exits": "linear"}


def job(folder: Path) -> Job:
    return Job(
        kind=Kind.SEARCH,
        number=3,
        family="gated_resnet",
        params=PARAMS,
        epochs=4,
        seed=5,
        data=DataSpec(source="digits", validation=0.2, train_limit=96, validation_limit=80),
        checkpoints=str(folder),
        key="s/search-0003",
        precision="float32",
        threads=1,
        answers=True,
    )


def trained(of: Job) -> Outcome:
    *_, last = worker.events(of)
    assert isinstance(last, Outcome), last
    return last


@pytest.mark.slow
def test_answers_lie_beside_the_checkpoint_and_are_those_of_the_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = trained(job(tmp_path))
    file = answers_file(tmp_path, "s/search-0003")
    found = read_answers(file)
    assert found is not None
    assert file in training_files(tmp_path, "s/search-0003")  # so that it goes with them
    points = {str(p.knobs): p for p in outcome.points}
    assert 1 < len(found.knobs) <= module.MOST_POINTS
    for knobs, logits_NC, macs_N in zip(found.knobs, found.logits, found.macs, strict=True):
        point = points[str(knobs)]
        right = (logits_NC.argmax(1) == found.labels).double().mean()
        assert float(right) == pytest.approx(point.accuracy, abs=0.02)  # ties of float16
        assert float(macs_N.double().mean()) == pytest.approx(point.macs_mean, rel=1e-4)
    assert not any(k["policy"] in ("stochastic", "ensemble") for k in found.knobs)

    # of many images and classes as many points as there is room for, or none
    monkeypatch.setattr(module, "MOST_VALUES", 2 * 80 * 10)
    trained(job(tmp_path))
    fewer = read_answers(file)
    assert fewer is not None
    assert len(fewer.knobs) == 2
    monkeypatch.setattr(module, "MOST_VALUES", 80 * 10 - 1)
    trained(job(tmp_path))
    assert not file.exists()


@pytest.mark.slow
def test_a_training_whose_answers_cannot_be_kept_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(module._Passes, "answers", broken)
    assert trained(job(tmp_path)).points
    assert not answers_file(tmp_path, "s/search-0003").exists()


@pytest.mark.slow
def test_a_study_without_cascades_keeps_no_answers(tmp_path: Path) -> None:
    trained(replace(job(tmp_path), answers=False))
    assert not answers_file(tmp_path, "s/search-0003").exists()


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    file = tmp_path / "s" / "search-0000.answers"
    answers = MemberAnswers(
        ({"tau": 0.5},), torch.zeros(1, 2, 3).half(), torch.ones(1, 2), torch.arange(2)
    )
    save_answers(file, answers)
    found = read_answers(file)
    assert found is not None
    assert found.knobs == ({"tau": 0.5},)
    file.write_bytes(file.read_bytes()[:-9])
    assert read_answers(file) is None
    assert read_answers(tmp_path / "other") is None


@pytest.mark.slow
def test_points_that_differ_in_exits_alone_share_a_pass_and_answer_as_in_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = load(job(Path()).data)
    candidate = Candidate.of(family("gated_resnet"), PARAMS, 4)
    net = candidate.build(task_of(data), 5)
    list(fit(net, data, candidate.recipe, seed=5))
    points = operating_points(net, data, Recipe(batch=32), execution=Execution(), seed=5)
    passes: list[Knobs] = []
    run = DynamicNet.run

    def counted(self: DynamicNet, images: torch.Tensor, knobs: Knobs, **rest: object) -> Output:
        if len(images) == 80:  # not a batch that refreshes batch norm
            passes.append(knobs)
        return run(self, images, knobs, **rest)

    monkeypatch.setattr(DynamicNet, "run", counted)
    found = member_answers(net, data, points, candidate.recipe, execution=Execution(), seed=5)
    monkeypatch.undo()
    assert found is not None
    kept = [Knobs(**knobs) for knobs in found.knobs]
    early = [knobs for knobs in kept if knobs.exit_rule != "none"]
    shared = {str(knobs.without_exits()) for knobs in early}
    assert len(early) > len(shared)
    # the validation images are one batch
    assert len(passes) == len(shared) + len(kept) - len(early)
    rates = {str(p.knobs): p.rates for p in points}
    for stored, knobs, logits, macs in zip(
        found.knobs, kept, found.logits, found.macs, strict=True
    ):
        at = module._Passes(net, data, candidate.recipe, Execution(), 5)._refreshed(knobs)
        own, paid = image_logits(at, data.validation, data, knobs, rates=rates[str(stored)])
        assert torch.equal(logits, own.half())
        assert torch.equal(macs, paid.float())
