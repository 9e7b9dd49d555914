"""Checkpoints of heads on a frozen trunk: small, and all that a training, an export or another training needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from search.run.checkpoint import Slot
from search.run.job import Doing, Job, Outcome
from search.run.worker import events, trained_net
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.checkpoint_files import study_files, training_files
from storage.records import Kind
from storage.shared_tensors import SHARED
from trainers.data.splits import DataSpec
from trainers.fit import EpochResult
from trainers.initial_weights import initial_state
from trainers.weights_source import tensors_of

PARAMS = {
    "backbone": "test_resnet",
    "trunk": "frozen",
    "dynamics": "exits",
    "exits": "linear",
    "batch": 64,
}


def job(folder: Path, weights: Path, **params: object) -> Job:
    return Job(
        kind=Kind.SEARCH,
        number=3,
        family="timm",
        params={**PARAMS, **params},
        epochs=2,
        seed=5,
        data=DataSpec(source="digits", train_limit=128, validation_limit=96, image_size=16),
        checkpoints=str(folder),
        key="s/search-0003",
        precision="float32",
        threads=1,
        init_from=str(weights),
    )


def trained(of: Job) -> Outcome:
    *_, last = events(of)
    assert isinstance(last, Outcome), last
    return last


def state_of(of: Job) -> dict[str, Tensor]:
    return dict(trained_net(of)[0].state_dict())


@pytest.mark.slow
def test_what_takes_long_before_the_first_epoch_is_said(tmp_path: Path, weights: Path) -> None:
    begun = [event for _, event in zip(range(2), events(job(tmp_path, weights)), strict=False)]
    assert begun[0] == Doing("its trunk reads the images, once for all trials of this size")
    assert isinstance(begun[1], EpochResult)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"ema": 0.5, "kept_epoch": "best"}])
def test_a_training_that_goes_on_from_its_heads_is_the_same_to_the_bit(
    tmp_path: Path, weights: Path, params: dict[str, object]
) -> None:
    straight, stopped = (job(tmp_path / name, weights, **params) for name in ("one", "other"))
    trained(straight)
    running = events(stopped)
    assert any(isinstance(event, EpochResult) for event in running)
    running.close()
    assert trained(stopped).points == trained(straight).points
    assert same(state_of(stopped), state_of(straight))


@pytest.mark.slow
def test_all_trainings_on_a_trunk_share_one_file_of_it(tmp_path: Path, weights: Path) -> None:
    first = job(tmp_path, weights)
    second = replace(first, number=4, key="s/search-0004", seed=6)
    trained(first)
    trained(second)
    trunks = [file for file in study_files(tmp_path, "s") if file.suffix == SHARED]
    assert len(trunks) == 1
    pretrained = size([weights])
    for one in (first, second):
        files = training_files(tmp_path, one.key)
        assert len(files) == 2
        assert size(files) < 0.3 * pretrained
    assert size(trunks) > 0.9 * pretrained
    assert not same(state_of(first), state_of(second))


@pytest.mark.slow
def test_a_checkpoint_of_the_whole_network_from_before_goes_on(
    tmp_path: Path, weights: Path
) -> None:
    straight, before = job(tmp_path / "one", weights), job(tmp_path / "other", weights)
    trained(straight)
    running = events(before)
    assert any(isinstance(event, EpochResult) for event in running)
    running.close()
    slot = Slot.of(before, Candidate.of(family(before.family), before.params, before.epochs))
    found = slot.load()
    assert found is not None
    slot.save(*found)  # all in one file
    for trunk in (tmp_path / "other").rglob(f"*{SHARED}"):
        trunk.unlink()
    trained(before)
    assert same(state_of(before), state_of(straight))


@pytest.mark.slow
def test_another_training_may_start_from_it_where_both_files_are(
    tmp_path: Path, weights: Path
) -> None:
    first = job(tmp_path, weights)
    trained(first)
    file = tmp_path / "s" / "search-0003.safetensors"
    found = initial_state(str(file))
    assert same(found, state_of(first))
    next_one = replace(first, key="t/search-0000", init_from=str(file))
    trained(next_one)
    net = trained_net(next_one)[0]
    own = net.state_dict()
    assert len(net.constant_names()) > 20
    assert all(torch.equal(own[name], found[name]) for name in net.constant_names())
    alone = tmp_path / "elsewhere.safetensors"
    alone.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"has a part of its weights in .*\.shared, which is not"):
        tensors_of(alone, "elsewhere.safetensors")
