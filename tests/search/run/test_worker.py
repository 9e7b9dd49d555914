"""One trial: what rungs change about its training (nothing), and whose weights its points are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import search.run.trial_execution as trial_execution
import search.run.worker as module
from search.run.job import Doing, Event, Job, Notice, Outcome, Rung
from search.run.worker import events, kept_epoch, teacher_net, trained_net
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from storage.checkpoints import Checkpoints
from storage.records import Kind
from trainers.data.splits import DataSpec
from trainers.evaluate import evaluate
from trainers.execution import Execution
from trainers.fit import EpochResult

PARAMS = {"backbone": "resnet8", "width": 0.25, "batch": 32, "granularity": "joint"}


def job(folder: Path, rungs: tuple[int, ...] = ()) -> Job:
    return Job(
        kind="search",
        number=3,
        family="gated_resnet",
        params=PARAMS,
        epochs=3,
        seed=5,
        data=DataSpec(source="digits", validation=0.2, train_limit=96),
        checkpoints=str(folder),
        key="s/search-0003",
        precision="float32",
        threads=1,
        rungs=rungs,
    )


def weights(of: Job) -> dict[str, torch.Tensor]:
    return dict(trained_net(of)[0].state_dict())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def until_rung(of: Job) -> list[Event]:
    """What happens up to the first rung, where the training is stopped."""
    running, found = events(of), []
    for event in running:
        found.append(event)
        if isinstance(event, Rung):
            break
    running.close()
    return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, list[Event]]:
    """A training without rungs."""
    of = job(tmp_path_factory.mktemp("straight"))
    return of, list(events(of))


@pytest.mark.slow
def test_a_network_trains_to_the_bit_as_if_it_had_not_been_measured(
    straight: tuple[Job, list[Event]], tmp_path: Path
) -> None:
    measured = job(tmp_path, rungs=(1, 2))
    found = list(events(measured))
    assert [type(e) for e in found] == [
        *(EpochResult, Rung, EpochResult, Rung, EpochResult),
        *(Doing, Outcome),
    ]
    assert [e.epoch for e in found if isinstance(e, Rung)] == [1, 2]
    assert same(weights(measured), weights(straight[0]))
    ours, theirs = found[-1], straight[1][-1]
    assert isinstance(ours, Outcome)
    assert isinstance(theirs, Outcome)
    assert ours.points == theirs.points


@pytest.mark.slow
def test_a_rung_tells_what_its_epoch_and_the_outcome_tell(
    straight: tuple[Job, list[Event]], tmp_path: Path
) -> None:
    epoch, rung = until_rung(job(tmp_path, rungs=(1,)))
    outcome = straight[1][-1]
    assert isinstance(epoch, EpochResult)
    assert isinstance(rung, Rung)
    assert isinstance(outcome, Outcome)
    assert rung.epoch == epoch.epoch == 1
    assert rung.outlook == epoch.metrics.get("objective/outlook")
    assert (rung.parameters, rung.plain_macs) == (outcome.parameters, outcome.plain_macs)
    assert rung.execution == outcome.execution
    assert 1 < len(rung.points) < len(outcome.points)
    assert rung.points[0].knobs == outcome.points[0].knobs, (
        "the first represents the training here too"
    )
    assert rung.points[0].accuracy == epoch.metrics["val/accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("metric", [{}, {"objective/outlook": 0.4}])
def test_a_rung_has_the_outlook_of_its_epoch_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: dict[str, float]
) -> None:
    monkeypatch.setattr(
        module,
        "rounds",
        lambda *_, **__: iter([EpochResult(1, {"val/accuracy": 0.5} | metric, {})]),
    )
    monkeypatch.setattr(module, "rung_points", lambda *_: [])
    *_, rung = until_rung(job(tmp_path, rungs=(1,)))
    assert isinstance(rung, Rung)
    assert rung.outlook == metric.get("objective/outlook")


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_bit_as_if_it_had_not_stopped(
    straight: tuple[Job, list[Event]], tmp_path: Path
) -> None:
    stopped = job(tmp_path, rungs=(1,))
    until_rung(stopped)
    again = list(events(job(tmp_path, rungs=(2,))))
    assert [type(e) for e in again] == [
        *(EpochResult, EpochResult, Rung, EpochResult),
        *(Doing, Outcome),
    ]
    assert [e.epoch for e in again if isinstance(e, EpochResult)] == [1, 2, 3]
    assert same(weights(stopped), weights(straight[0]))


@pytest.mark.slow
def test_epochs_that_were_lost_with_their_reader_are_told_again(
    straight: tuple[Job, list[Event]], tmp_path: Path
) -> None:
    """Nobody has read two of three epochs, as where a driver is killed that was behind."""
    of = job(tmp_path)
    unread = events(of)
    next(unread), next(unread)
    unread.close()
    for reached, told in ((0, [1, 2]), (1, [2]), (2, [2])):
        running = events(replace(of, reached=reached, rungs=(1,)))
        found = [next(running) for _ in told]
        assert all(isinstance(e, EpochResult) for e in found), "weights of a past rung are gone"
        assert [e.epoch for e in found if isinstance(e, EpochResult)] == told
        running.close()
    whole = [e for e in straight[1] if isinstance(e, EpochResult)]
    again = [e for e in events(of) if isinstance(e, EpochResult)]
    assert [(e.epoch, e.metrics["val/accuracy"], e.gate_rates, e.before) for e in again] == [
        (e.epoch, e.metrics["val/accuracy"], e.gate_rates, ()) for e in whole
    ]


@pytest.mark.slow
def test_a_rung_that_was_not_decided_is_measured_again_from_the_checkpoint(tmp_path: Path) -> None:
    _, first = until_rung(job(tmp_path, rungs=(1, 2)))
    epoch, second = until_rung(job(tmp_path, rungs=(1, 2)))
    assert isinstance(epoch, EpochResult)
    assert isinstance(first, Rung)
    assert isinstance(second, Rung)
    assert (epoch.epoch, second.epoch) == (1, 1)
    assert second.points == first.points


@pytest.mark.slow
def test_the_weights_of_an_ended_training_are_those_that_it_was_measured_with(
    straight: tuple[Job, list[Event]], tmp_path: Path
) -> None:
    stopped = job(tmp_path, rungs=(2,))
    until_rung(stopped)
    assert not same(weights(replace(stopped, trained=2)), weights(straight[0]))
    for wanted in (None, 1):
        with pytest.raises(
            ValueError, match=rf"trial 3 holds epoch 2, its points were .* epoch {wanted or 3};"
        ) as found:
            trained_net(replace(stopped, trained=wanted))
        assert "\n" not in str(found.value)
    with pytest.raises(
        ValueError,
        match="trial 3 holds epoch 3, its points were measured after epoch 2; search the",
    ):
        trained_net(replace(straight[0], trained=2))
    with pytest.raises(ValueError, match="the checkpoint of trial 3 is missing in"):
        trained_net(job(tmp_path / "elsewhere"))


@pytest.mark.slow
def test_the_weights_that_were_measured_are_those_of_the_epoch_that_is_kept(tmp_path: Path) -> None:
    of = job(tmp_path)
    of = replace(of, params={**of.params, "kept_epoch": "best", "ema": 0.5, "lr": 0.3})
    found = list(events(of))
    values = [e.metrics["val/accuracy"] for e in found if isinstance(e, EpochResult)]
    outcome = found[-1]
    assert isinstance(outcome, Outcome)
    settled = [e.metrics["objective/settled"] for e in found if isinstance(e, EpochResult)]
    best = max((v, -i) for i, v in enumerate(values) if settled[i])
    assert kept_epoch(of) == 1 - best[1]
    assert outcome.points[0].accuracy == best[0]
    net, _, data = trained_net(of)
    table = evaluate(net, data.validation, data, Knobs(), execution=Execution())
    assert table.accuracy == best[0]
    assert kept_epoch(replace(of, params={})) == of.epochs


@pytest.mark.slow
def test_a_distilled_trial_learns_from_the_trained_baseline(
    straight: tuple[Job, list[Event]], tmp_path: Path
) -> None:
    plain = replace(job(tmp_path), kind=Kind.BASELINE, key="s/plain")
    plain = replace(plain, params={**plain.params, "gated": False})
    list(events(plain))
    file = str(Checkpoints(tmp_path).path(plain.key))
    taught = replace(job(tmp_path), teacher=file)
    taught = replace(taught, params={**taught.params, "distill": 0.9})
    candidate = Candidate.of(family(taught.family), taught.params, taught.epochs)
    trained, *_ = trained_net(plain)
    teacher = teacher_net(taught, candidate, trained.task)
    assert teacher is not None
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(teacher.eval()(images).logits_BC, trained(images).logits_BC)
    *_, outcome = events(taught)
    assert isinstance(outcome, Outcome)
    assert not same(weights(taught), weights(straight[0]))
    other = Candidate.of(family(taught.family), {**taught.params, "backbone": "resnet14"}, 3)
    with pytest.raises(ValueError, match=r"^distill: .*plain.* is no baseline of this size"):
        teacher_net(taught, other, trained.task)


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_a_network_that_bfloat16_computes_wrongly_trains_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """oneDNN's convolutions of some shapes are wrong on some CPUs; trained so, an exported network is worthless."""
    wrong: list[str] = []
    monkeypatch.setattr(
        trial_execution,
        "wrong_operations",
        lambda net, execution, images: wrong if execution.dtype != "float32" else [],
    )
    asked = replace(
        job(tmp_path),
        epochs=1,
        precision=precision,
        execution=Execution(dtype="bfloat16").as_dict(),
    )
    for name, wrong in (("right", []), ("wrong", ["aten.convolution.default of 1x2"])):
        found = list(events(replace(asked, key=f"s/{name}")))
        outcome = found[-1]
        assert isinstance(outcome, Outcome)
        assert outcome.execution["dtype"] == ("float32" if wrong else "bfloat16")
        notices = [event.text for event in found if isinstance(event, Notice)]
        said = "trial 3 trains in float32, since torch's bfloat16 is wrong here for aten.convolution.default of 1x2"
        assert notices == ([said] if wrong and precision == "bfloat16" else [])
