"""Members of a cascade on images of any size: heads on kept features answer as the network does for the images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from search.run import cascade_passes
from search.run.cascade_passes import TrainedMember
from search.run.data import task_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.exits.frozen_trunk import FrozenTrunkNet
from trainers.data.splits import DataSpec, ImageData, Split, load
from trainers.execution import Execution
from trainers.feature_files import FeatureFiles
from trainers.fit import fit
from trainers.frozen import frozen_data

VALUES = {"backbone": "test_resnet", "dynamics": "exits", "exits": "linear", "batch": 64}
EARLY = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(0.35, 0.35))


def images(side: int) -> ImageData:
    return load(DataSpec(source="digits", train_limit=128, validation_limit=96, image_size=side))


@pytest.fixture(scope="module")
def own() -> ImageData:
    return images(16)


def trained(data: ImageData, files: FeatureFiles, **values: object) -> TrainedMember:
    """Heads that learned a little on 16 pixels; they leave early where they are somewhat sure."""
    candidate = Candidate.of(family("timm"), {**VALUES, "trunk": "frozen", **values}, 1)
    net = candidate.build(task_of(data), 0)
    rows = frozen_data(net, data, views=1, files=files, execution=Execution())
    list(fit(net, rows or data, candidate.recipe, seed=1))
    return TrainedMember(net.eval(), EARLY, {}, data)


def on_images(
    member: TrainedMember, split: Split, monkeypatch: pytest.MonkeyPatch
) -> tuple[torch.Tensor, object]:
    with monkeypatch.context() as patch:
        patch.setattr(cascade_passes, "rows_of", lambda *_, **__: None)
        return member.answers(split, Execution())


@pytest.mark.slow
@pytest.mark.parametrize("side", [16, 24])
@pytest.mark.parametrize("reads", ["own", "all"])
def test_heads_on_features_answer_as_the_network_does_for_the_images(
    own: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, reads: str
) -> None:
    files = FeatureFiles(tmp_path, 10**8)
    member = trained(own, files, exit_reads=reads)
    split = images(side).validation
    probabilities, macs = member.answers(split, Execution(), files)
    expected, paid = on_images(member, split, monkeypatch)
    assert len(set(macs.tolist())) > 1
    assert macs.tolist() == paid.tolist()  # type: ignore[attr-defined]
    torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-6)
    assert torch.equal(probabilities.argmax(1), expected.argmax(1))


@pytest.mark.slow
def test_images_of_a_size_pass_a_trunk_once_for_all_its_members(
    own: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FeatureFiles(tmp_path, 10**8)
    first, second = trained(own, files), trained(own, files, exit_places="0", exit_reads="all")
    passed: list[int] = []
    features = FrozenTrunkNet.features

    def counted(self: FrozenTrunkNet, pixels: torch.Tensor, reads: object) -> list[torch.Tensor]:
        passed.append(len(pixels))
        return features(self, pixels, reads)

    monkeypatch.setattr(FrozenTrunkNet, "features", counted)
    larger = images(24).validation
    answers = [
        member.answers(split, Execution(), files)[0]
        for member in (first, second)
        for split in (own.validation, larger)
    ]
    # the larger images, few at once; the own ones were passed for the training
    assert passed == [32, 32, 32]
    assert not torch.allclose(answers[0], answers[1])


@pytest.mark.slow
def test_a_trunk_that_learns_is_run_on_the_images(
    own: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FeatureFiles(tmp_path, 10**8)
    member = trained(own, files, trunk="finetuned")
    split = images(24).validation
    found, expected = (
        member.answers(split, Execution(), files)[0],
        on_images(member, split, monkeypatch)[0],
    )
    assert torch.equal(found, expected)
    assert not list(tmp_path.glob("*.npy"))
