"""timm's vision transformers as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from search.exact import named_values
from search.run.worker import initial_net
from search.spec import narrowed_spaces, parse_study
from spaces.backbones.timm_vits import known_vit, sizes_of
from spaces.contract.family import Candidate
from spaces.contract.policies import AlwaysOn
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.transformers.routed_vit import RoutedViT
from tests.search.run.jobs import job
from trainers.initial_weights import initial_state, start_from

TASK = Task(channels=3, height=32, width=32, classes=10)
SMALL: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 48,
    "depth": 3,
    "num_heads": 3,
}
OURS = {"layers": 3, "dim": 48, "head_dim": 16, "mlp_ratio": 4, "patch": 8, "norm_eps": 1e-6}
DISTILLED = "deit_tiny_distilled_patch16_224"


def theirs(name: str, **changes: Any) -> nn.Module:
    """A small model of timm with random weights, all of them away from 0 and 1."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **SMALL | changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def ours(name: str, file: Path, task: Task = TASK, **values: Any) -> RoutedViT:
    """Our network with the weights of the file."""
    candidate = Candidate.of(family(name), OURS | values, 1)
    net = candidate.build(task, 1)
    start_from(net, str(file), candidate.baseline().outline(task).state_dict())
    assert isinstance(net, RoutedViT)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "model", "tokens", "changes"),
    [
        ("skip_vit", "vit_tiny_patch16_224", 1, {}),
        ("shuffled_vit", DISTILLED, 2, {}),
        ("skip_vit", DISTILLED, 2, {}),
        ("shuffled_vit", "vit_small_patch16_224", 1, {"init_values": 0.1, "no_embed_class": True}),
    ],
)
def test_with_every_layer_open_the_answers_are_those_of_timm(
    tmp_path: Path, name: str, model: str, tokens: int, changes: dict[str, Any]
) -> None:
    given = theirs(model, **changes)
    save_file(given.state_dict(), tmp_path / "theirs.safetensors")
    net = ours(name, tmp_path / "theirs.safetensors", class_tokens=tokens)
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            net(images, AlwaysOn()).logits_BC, given(images), atol=1e-5, rtol=0
        )


def test_a_mixture_that_starts_near_the_baseline_answers_nearly_as_timm_does(
    tmp_path: Path,
) -> None:
    given = theirs("vit_tiny_patch16_224")
    save_file(given.state_dict(), tmp_path / "theirs.safetensors")
    net = ours("dense_vit", tmp_path / "theirs.safetensors", agg_init="last_biased")
    with torch.no_grad():
        for mixing in net.mixings:
            mixing.oracle.weight.zero_()
            mixing.oracle.bias.fill_(-100.0)[-1] = 100.0  # all weight on the layer before
        images = torch.randn(4, 3, 32, 32)
        torch.testing.assert_close(net(images).logits_BC, given(images), atol=1e-5, rtol=0)


def test_a_new_number_of_classes_starts_both_classifiers_at_zero(tmp_path: Path) -> None:
    save_file(theirs(DISTILLED).state_dict(), tmp_path / "theirs.safetensors")
    task = Task(channels=1, height=32, width=32, classes=4)
    net = ours("skip_vit", tmp_path / "theirs.safetensors", task, class_tokens=2)
    assert net.fc_dist is not None
    assert not net.fc.weight.any()
    assert not net.fc_dist.weight.any()
    assert net.head_names() >= {"fc.weight", "fc_dist.weight", "oracles.1.head.bias"}


def test_images_and_patches_of_another_size_take_resampled_weights(tmp_path: Path) -> None:
    given = theirs(DISTILLED)
    with torch.no_grad():
        given.get_parameter("pos_embed")[:, 2:] = 7.0
    save_file(given.state_dict(), tmp_path / "theirs.safetensors")
    task = Task(channels=3, height=24, width=24, classes=10)
    net = ours("skip_vit", tmp_path / "theirs.safetensors", task, class_tokens=2, patch=4)
    assert net.positions.shape == (1, 2 + 36, 48)
    torch.testing.assert_close(net.positions[:, 2:], torch.full((1, 36, 48), 7.0))
    assert torch.equal(net.positions[:, :2], given.get_parameter("pos_embed")[:, :2])
    assert net.patches.weight.shape == (48, 3, 4, 4)


def test_a_named_backbone_is_cut_and_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    given = theirs("vit_tiny_patch16_224")
    file = tmp_path / "theirs.safetensors"
    save_file(given.state_dict(), file)
    net = ours("skip_vit", file, layers=2, backbone="vit_tiny_patch16_224")
    qkv = given.get_parameter("blocks.1.attn.qkv.weight")
    assert torch.equal(net.get_parameter("layers.1.qkv.weight"), qkv)
    with pytest.raises(ValueError, match="has 12 tensors that this network has no place for"):
        ours("skip_vit", file, layers=2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", "it is a SwinTransformer"),
        ("vit_base_patch16_clip_224", "it has norm_pre.weight"),
        ("vit_small_patch14_reg4_dinov2", "it has reg_token"),
        ("vit_base_patch16_rpn_224", "it does not answer by its class token"),
    ],
)
def test_what_is_no_plain_vit_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is no plain vision transformer \({reason}\)"):
        known_vit(name)


def test_sizes_are_those_of_the_model() -> None:
    assert sizes_of("vit_base_patch16_224") == {
        "layers": 12, "dim": 768, "head_dim": 64, "mlp_ratio": 4, "patch": 16,
        "norm_eps": 1e-6, "class_tokens": 1,
    }  # fmt: skip
    assert sizes_of(DISTILLED)["class_tokens"] == 2


def study(space: str) -> str:
    return f"study: s\ndata: digits\nfamilies: [skip_vit]\nspace: {{skip_vit: {{{space}}}}}\n"


def test_a_study_that_names_a_backbone_has_its_sizes() -> None:
    spec = parse_study(study("backbone: deit_tiny_distilled_patch16_224, layers: [6, 12]"), "f")
    (space,) = narrowed_spaces(spec).values()
    found = {d.name: d for d in space}
    assert found["layers"].choices == (6, 12)
    fixed = {name: found[name].default for name in ("dim", "head_dim", "patch", "class_tokens")}
    assert fixed == {"dim": 192, "head_dim": 64, "patch": 16, "class_tokens": 2}
    assert named_values(spec, "skip_vit")["backbone"] == DISTILLED


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("backbone: vit_tiny_patch16_224, dim: 64", r"space\.skip_vit\.dim: 64 is not one of 192"),
        (
            "backbone: vit_tiny_patch16_224, layers: 13",
            r"13 is not a whole number between 1 and 12",
        ),
        ("backbone: [vit_tiny_patch16_224, vit_small_patch16_224]", "only one can be named"),
        ("backbone: resnet18", r"resnet18 is no plain vision transformer \(it is a ResNet\)"),
    ],
)
def test_a_study_cannot_change_what_a_backbone_fixes(space: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        parse_study(study(space), "f")
    assert "\n" not in str(found.value)


def test_pretrained_names_the_published_weights_and_needs_a_backbone() -> None:
    values = {"backbone": "vit_tiny_patch16_224", "pretrained": True}
    one = Candidate.of(family("skip_vit"), values, 1)
    assert one.published == one.baseline().published == "timm:vit_tiny_patch16_224"
    with pytest.raises(ValueError, match=r"^pretrained: write in `backbone`"):
        Candidate.of(family("skip_vit"), {"pretrained": True}, 1)


def test_published_weights_are_what_a_training_starts_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("spaces.backbones.timm_models.pretrained_arguments", lambda _: {})
    sizes = {**OURS, "layers": 2, "dim": 192, "head_dim": 64, "patch": 16}
    values = sizes | {"backbone": "vit_tiny_patch16_224", "pretrained": True}
    torch.manual_seed(3)
    net = initial_net(job(tmp_path), Candidate.of(family("skip_vit"), values, 1), TASK)
    torch.manual_seed(3)
    given = timm.create_model("vit_tiny_patch16_224")
    assert torch.equal(
        net.get_parameter("layers.1.up.weight"), given.get_parameter("blocks.1.mlp.fc1.weight")
    )
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"^init_from: vit_tini is not a timm model"):
        initial_state("timm:vit_tini")
