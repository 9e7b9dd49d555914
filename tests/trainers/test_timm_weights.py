"""Files of timm's own models as weights to start from, at other image sizes and for other classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from spaces.backbones.timm_models import pixel_statistics
from spaces.backbones.timm_state import fitted
from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.exits import timm_trunk
from trainers import initial_weights
from trainers.initial_weights import start_from

NAMES = (
    "resnet18",
    "resnet26",
    "resnetv2_50",
    "mobilenetv2_100",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "regnety_002",
    "ghostnet_050",
    "repvgg_a0",
    "densenet121",
    "convnext_atto",
    "edgenext_xx_small",
    "poolformer_s12",
    "vit_tiny_patch16_224",
    "vit_tiny_r_s16_p8_224",
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "eva02_tiny_patch14_224",
    "swin_tiny_patch4_window7_224",
    "cait_xxs24_224",
    "volo_d1_224",
    "nest_tiny",
    "pit_ti_224",
    "pit_ti_distilled_224",
    "levit_128s",
    "efficientformerv2_s0",
)
POSITIONS = ("pos_embed", "relative_position_bias_table", "attention_biases", "patch_embed.")


def nets(name: str, size: int, channels: int = 3) -> tuple[DynamicNet, dict[str, Tensor]]:
    """(the model of this name for five classes, its baseline's tensors)."""
    task = Task(channels=channels, height=size, width=size, classes=5)
    candidate = Candidate.of(family("timm"), {"backbone": name}, 1).baseline()
    net = candidate.build(task, 0)
    return net, {k: v.clone() for k, v in net.state_dict().items()}


def published(name: str, path: Path) -> tuple[str, dict[str, Tensor]]:
    """A file with the state dict of the model as timm makes it, for its own size and 1,000 classes."""
    torch.manual_seed(7)
    model = timm.create_model(name)
    for parameter in model.parameters():  # where timm begins with zeros, nothing would show
        nn.init.normal_(parameter, std=0.1)
    torch.save(model.state_dict(), path)
    return str(path), model.state_dict()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of timm's tracing
@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("name", NAMES)
def test_a_models_own_file_is_loaded_but_for_its_classifiers(
    name: str, size: int, tmp_path: Path
) -> None:
    source, theirs = published(name, tmp_path / "w.pt")
    net, before = nets(name, size)
    start_from(net, source, before)
    heads = net.classifiers
    assert heads
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        given = theirs.get(key.removeprefix("model."))
        if key.rpartition(".")[0] in heads:
            assert not value.any(), f"{key}: a new classifier starts at zero"
        elif given is not None and given.shape == value.shape:
            assert torch.equal(value, given), key
        else:
            assert any(word in key for word in POSITIONS), key
            assert not torch.equal(value, before[key]), key
            assert torch.isfinite(value).all(), key


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_positions_keep_their_order(tmp_path: Path) -> None:
    """A table that rises along an axis still does at another size."""
    for name, key, axis in (
        ("cait_xxs24_224", "pos_embed", 1),
        ("pit_ti_224", "pos_embed", 2),
        ("volo_d1_224", "pos_embed", 1),
        ("levit_128s", "stages.0.blocks.0.attn.attention_biases", 1),
    ):
        model = timm.create_model(name, img_size=64)
        state = timm.create_model(name).state_dict()
        rising = torch.arange(state[key].shape[axis], dtype=torch.float32)
        shape = [-1 if i == axis else 1 for i in range(state[key].ndim)]
        state[key] = rising.reshape(shape).expand_as(state[key]).contiguous()
        found = fitted(state, model)[key]
        assert found.shape == model.state_dict()[key].shape
        steps = found.movedim(axis, 0).reshape(found.shape[axis], -1)[:, 0].diff()
        assert (steps > 0).all(), name


def test_a_state_that_fits_is_not_touched() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=64)
    state = model.state_dict()
    assert all(fitted(state, model)[key] is value for key, value in state.items())


@pytest.mark.slow
def test_weights_of_a_larger_model_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    source, _ = published("resnet34", tmp_path / "w.pt")
    net, before = nets("resnet18", 64)
    message = r"has \d+ tensors that this network has no place for, such as model.layer1.2.conv1.weight; .* larger"
    with pytest.raises(ValueError, match=message):
        start_from(net, source, before)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())


@pytest.mark.slow
def test_what_depends_on_the_number_of_places_by_a_layer_is_refused(tmp_path: Path) -> None:
    source, _ = published("mixer_s32_224", tmp_path / "w.pt")
    net, before = nets("mixer_s32_224", 64)
    with pytest.raises(ValueError, match=r"mlp_tokens\.fc1\.weight has shape"):
        start_from(net, source, before)


@pytest.mark.slow
def test_a_file_without_a_classifier_is_enough(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "w.pt")
    net, before = nets("resnet18", 64, channels=1)
    start_from(net, str(tmp_path / "w.pt"), before)
    assert not net.state_dict()["model.fc.weight"].any()


@pytest.mark.parametrize("normalization", ["images", "published"])
def test_weights_for_other_pixels_than_the_model_is_given_are_refused(
    monkeypatch: pytest.MonkeyPatch, normalization: str
) -> None:
    name, weights = "mobilenetv3_small_050", "mobilenetv3_small_050.lamb_in1k"
    state = timm.create_model(name).state_dict()
    monkeypatch.setattr(initial_weights, "initial_state", lambda source: state)
    task = Task(channels=3, height=32, width=32, classes=5)
    values = {"backbone": name, "normalization": normalization}
    candidate = Candidate.of(family("timm"), values, 1)
    net, needed = candidate.build(task, 0), candidate.baseline().outline(task).state_dict()
    assert start_from(net, f"timm:{weights}", needed)
    monkeypatch.setattr(timm_trunk, "pixel_statistics", lambda name: ((0.0,) * 3, (1.0,) * 3))
    if normalization == "images":
        assert start_from(net, f"timm:{weights}", needed)
        return
    told = (
        f"backbone: {name} is given pixels at mean [0.485, 0.456, 0.406] and deviation [0.229, 0.224, 0.225], "
        f"and init_from names weights for [0.0, 0.0, 0.0] and [1.0, 1.0, 1.0]: write `backbone: {weights}`"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        start_from(net, f"timm:{weights}", needed)


def test_published_weights_of_one_model_may_be_for_other_pixels() -> None:
    whole, usual = ((0.0,) * 3, (1.0,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert pixel_statistics("mobilenetv3_large_100") == usual
    assert pixel_statistics("mobilenetv3_large_100.miil_in21k_ft_in1k") == whole
