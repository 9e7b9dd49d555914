"""Any timm model made dynamic: what is skipped, what is left as it was, what is said where nothing can be done."""

from __future__ import annotations

import re
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import spaces
from spaces.backbones import timm_weights
from spaces.backbones.timm_graph import shortcut
from spaces.backbones.timm_models import created, known
from spaces.backbones.timm_units import Layout
from spaces.contract.family import Candidate
from spaces.contract.narrowing import narrowed
from spaces.contract.policies import AlwaysOn, Sampled, Threshold
from spaces.contract.registry import family
from spaces.contract.space import active_names
from spaces.contract.task import Task
from spaces.families.timm_net import TimmNet, _mixed
from tests.spaces.families.cases import counting

FAMILY = family("timm")
SMALL = Task(channels=3, height=32, width=32, classes=5)


@dataclass(frozen=True)
class Model:
    """A timm model, how timm itself makes it for the task, and how many of its blocks have gates."""

    name: str
    gates: int
    exits: int
    arguments: dict[str, Any] = field(default_factory=dict)
    size: int = 32
    ungated: int = 0


_VIT = {"img_size": 32, "patch_size": 4}
MODELS = (
    Model("resnet10t", 1, 3, ungated=3),
    Model("resnet18", 5, 3, ungated=3),
    Model("resnetv2_18", 5, 3, ungated=3),
    Model("regnetx_002", 9, 3, ungated=4),
    Model("convnext_atto", 12, 3),
    Model("efficientnet_b0", 9, 5, ungated=6),
    Model("mobilenetv2_050", 10, 5, ungated=6),
    Model("mobilenetv3_small_050", 7, 2, ungated=3),
    Model("vit_tiny_patch16_224", 12, 3, _VIT),
    Model("deit_tiny_distilled_patch16_224", 12, 3, _VIT),
    Model("swin_tiny_patch4_window7_224", 12, 3, {"img_size": 32, "window_size": 4}),
    Model("gmixer_12_224", 12, 3, {"img_size": 32}),
    Model("test_mambaout", 6, 3),
    Model("test_maxvit", 8, 3, {"img_size": 32}),
)


def built(name: str, task: Task = SMALL, seed: int = 0, **values: Any) -> TimmNet:
    net = Candidate.of(FAMILY, {"backbone": name, **values}, epochs=1).build(task, seed)
    assert isinstance(net, TimmNet)
    return net


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_model_made_dynamic_is_the_plain_timm_model_while_all_is_open(model: Model) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        plain = timm.create_model(model.name, num_classes=5, **model.arguments).eval()
        for parameter in plain.parameters():
            # timm starts many residuals, and some heads, at zero
            if parameter.ndim == 1 or not parameter.any():
                nn.init.uniform_(parameter, 0.5, 1.5)
    net = built(model.name, dynamics="both").eval()
    assert len(net.gates) == model.gates
    assert net.exit_count == model.exits
    assert len(net.ungated) == model.ungated
    net.load_plain(plain.state_dict())
    x = torch.randn(4, 3, model.size, model.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(net(x, Threshold(tau=0.0)).logits_BC, plain(x))
        assert torch.equal(net(x, AlwaysOn()).logits_BC, plain(x))
        closed = net(x, Threshold(tau=1.0))
        assert not torch.equal(closed.logits_BC, plain(x))
        with counting() as counter:
            plain(x[:1])
        assert net.plain_macs == counter.get_total_flops() / 2
        with counting() as counter:
            macs = net(x[:1], Threshold(tau=1.0), compact=True).macs_B.item()
        assert macs == counter.get_total_flops() / 2 < net.plain_macs
        policy = Sampled(
            seed=1, step=0, ids_B=torch.arange(4), units=net.total_units(), estimator="gumbel_st"
        )
        masked, compact = net(x, policy), net(x, policy, compact=True)
    torch.testing.assert_close(compact.logits_BC, masked.logits_BC, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(compact.macs_B, masked.macs_B)


def test_a_closed_resnet_is_its_stem_its_strided_blocks_and_its_head() -> None:
    net = built("resnet18").eval()
    model, x = net.model, torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        u = model.maxpool(model.act1(model.bn1(model.conv1(x))))
        for block in (model.layer2[0], model.layer3[0], model.layer4[0]):
            u = block(u)
        expected = model.fc(model.global_pool(u))
        torch.testing.assert_close(
            net(x, Threshold(tau=1.0), compact=True).logits_BC, expected, rtol=0, atol=0
        )


def test_a_closed_transformer_answers_from_its_embedding_alone() -> None:
    net = built("vit_tiny_patch16_224").eval()
    model, x = net.model, torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = model.forward_head(
            model.norm(model.norm_pre(model._pos_embed(model.patch_embed(x))))
        )
        assert torch.equal(net(x, Threshold(tau=1.0)).logits_BC, expected)


def test_blocks_that_cannot_be_skipped_are_named_with_the_reason() -> None:
    shapes = (("64x8x8", "128x4x4"), ("128x4x4", "256x2x2"), ("256x2x2", "512x1x1"))
    expected = [
        (f"layer{i}.0", f"changes the shape from {a} to {b}") for i, (a, b) in enumerate(shapes, 2)
    ]
    assert list(built("resnet18").ungated) == expected


def test_a_model_without_shortcuts_is_refused_for_gates() -> None:
    message = "^backbone: densenet121 has no block that adds to an input of its output's shape.*choose dynamics: exits"
    with pytest.raises(ValueError, match=message):
        built("densenet121", dynamics="gates")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exits"), [("densenet121", 6), ("vgg11_bn", 3)])
def test_a_model_without_shortcuts_has_exits_only(name: str, exits: int) -> None:
    net = built(name, dynamics="exits").eval()
    assert (net.exit_count, net.gates) == (exits, ())
    assert all(reason == "has no shortcut" for _, reason in net.ungated)
    assert net(torch.randn(2, 3, 32, 32)).logits_BC.shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "size", "values", "message"),
    [
        ("resnet81", 32, {}, r"^resnet81 is not a timm model; did you mean resnet18\?$"),
        ("x" * 1_000, 32, {}, r"^x{100} is not a timm model; did you mean "),
        (
            "resnet18.tv_in2k",
            32,
            {},
            r"^resnet18.tv_in2k: timm has no such weights; known: .*tv_in1k",
        ),
        (
            "convnext_atto",
            8,
            {},
            r"^backbone: convnext_atto cannot take 8x8 images \(.*\); use larger",
        ),
        (
            "crossvit_9_240",
            64,
            {},
            "^backbone: crossvit_9_240 cannot be made dynamic: its forward pass",
        ),
        (
            "vit_tiny_patch16_224",
            32,
            {"stem": "small"},
            "^stem: vit_tiny_patch16_224 has no strided convolution",
        ),
        (
            "hrnet_w18_small",
            32,
            {"dynamics": "exits"},
            "^backbone: hrnet_w18_small has no end of a stage",
        ),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(
    name: str, size: int, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        built(name, Task(channels=3, height=size, width=size, classes=3), **values)
    assert "\n" not in str(raised.value)


def test_weights_that_cannot_be_loaded_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device\nand more")

    monkeypatch.setattr(timm_weights, "_ask_hub", lambda *_: None)
    monkeypatch.setattr("timm.models._builder.load_pretrained", broken)
    message = r"^pretrained: the weights of resnet10t could not be loaded \(no space left on device\); copy its cache"
    with pytest.raises(ValueError, match=message):
        built("resnet10t", pretrained=True)


class NoNetwork:
    """What huggingface_hub sends requests with, on a machine without a network."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def head(self, url: str, timeout: float) -> None:
        self.asked.append((url, timeout))
        raise OSError("no route to host\nand more")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_without_the_hub_the_first_try_says_what_to_do(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = NoNetwork()
    monkeypatch.setattr("huggingface_hub.get_session", lambda: session)
    message = (
        r"^pretrained: the weights of resnet10t are not on this machine, and https://\S+ cannot be reached "
        r"\(no route to host\); copy its cache .*HF_HOME.* `init_from`$"
    )
    with pytest.raises(ValueError, match=message):
        built("resnet10t", pretrained=True)
    ((url, seconds),) = session.asked
    assert "/timm/resnet10t." in url
    assert seconds <= 5


@pytest.mark.parametrize(
    ("name", "path"),
    [("resnet10t", "layer1.0.conv1.weight"), ("vit_tiny_patch16_224", "blocks.0.mlp.fc1.weight")],
)
def test_weights_in_the_cache_are_loaded_without_asking_the_hub(
    name: str, path: str, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = NoNetwork()
    monkeypatch.setattr("huggingface_hub.get_session", lambda: session)
    repository = timm.models.get_pretrained_cfg(name).hf_hub_id
    folder = hub_cache / f"models--{repository.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    published = timm.create_model(name).state_dict()
    save_file(published, folder / "snapshots" / "abc" / "model.safetensors")
    net = built(name, pretrained=True)
    assert torch.equal(net.model.state_dict()[path], published[path])
    assert not net.model.get_classifier().weight.any()  # of other classes: it starts at zero
    assert session.asked == []


def test_a_study_names_any_timm_model() -> None:
    space = narrowed(
        FAMILY.space, {"backbone": ["timm:regnety_002", "resnet18"]}, "s.yml: space.timm"
    )
    backbone = next(d for d in space if d.name == "backbone")
    assert backbone.choices == ("regnety_002", "resnet18")
    assert not backbone.contains("resnet34")
    message = (
        "s.yml: space.timm.backbone: regnety_0002 is not a timm model; did you mean regnety_002?"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        narrowed(FAMILY.space, {"backbone": "regnety_0002"}, "s.yml: space.timm")
    with pytest.raises(ValueError, match="stands there twice"):
        narrowed(FAMILY.space, {"backbone": ["timm:resnet18", "resnet18"]}, "s.yml: space.timm")


def test_one_model_has_one_key_whether_or_not_timm_stands_before_its_name() -> None:
    one, other = (
        Candidate.of(FAMILY, {"backbone": name}, 1) for name in ("timm:resnet34", "resnet34")
    )
    assert one.key == other.key
    assert known("resnet18.tv_in1k") == "resnet18.tv_in1k"


def test_gates_have_no_dimensions_where_only_exits_are_asked_for() -> None:
    def active(dynamics: str) -> set[str]:
        return set(
            active_names(FAMILY.space, Candidate.of(FAMILY, {"dynamics": dynamics}, 1).values)
        )

    assert {"gate", "loss", "target"} <= active("gates")
    assert not {"exits", "alpha_kd", "exit_decision"} & active("gates")
    assert {"exits", "alpha_kd", "exit_decision"} <= active("exits")
    assert not {"gate", "gate_hidden", "granularity", "loss", "target", "estimator"} & active(
        "exits"
    )
    assert active("both") == active("gates") | active("exits")


def test_taking_a_model_apart_leaves_its_mode_its_gradients_and_its_weights() -> None:
    task = Task(channels=2, height=33, width=35, classes=4)
    # the first is taken apart, the second is not
    nets = [built("test_resnet", task, seed=3) for _ in range(2)]
    assert all(module.training for module in nets[0].modules())
    assert all(parameter.requires_grad for parameter in nets[0].parameters())
    state = nets[1].state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in nets[0].state_dict().items())


def test_a_small_stem_keeps_pixels_and_weights() -> None:
    kept, small = built("resnet10t"), built("resnet10t", stem="small")
    assert kept.parts.units[0].inputs.height == 8
    assert small.parts.units[0].inputs.height == 32
    assert [(n, p.shape) for n, p in kept.model.named_parameters()] == [
        (n, p.shape) for n, p in small.model.named_parameters()
    ]


def test_patches_and_windows_follow_the_image() -> None:
    vit = created("vit_tiny_patch16_224", Task(channels=1, height=28, width=28, classes=10))
    assert vit.patch_embed.grid_size == (7, 7)
    digits = created("vit_tiny_patch16_224", Task(channels=1, height=8, width=8, classes=10))
    assert digits.patch_embed.grid_size == (8, 8)
    swin = created(
        "swin_tiny_patch4_window7_224", Task(channels=3, height=64, width=96, classes=10)
    )
    assert swin.patch_embed.grid_size == (16, 24)
    assert swin.layers[0].blocks[0].window_size == (4, 4)


def test_mixed_tensors_are_exact_at_both_ends_and_have_the_gradient_of_the_gated_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    u, y = (torch.randn(4, 3, 2, 2, generator=generator, requires_grad=True) for _ in range(2))
    z = torch.tensor([[0.0], [1.0], [1.0], [0.3]], requires_grad=True)
    mixed = _mixed(u, y, z)
    assert torch.equal(mixed[0], u[0])
    assert torch.equal(mixed[1:3], y[1:3])
    weight = torch.randn(mixed.shape, generator=generator)
    summed = u + z[:, :, None, None] * (y - u)
    for ours, theirs in zip(
        torch.autograd.grad((mixed * weight).sum(), (u, y, z)),
        torch.autograd.grad((summed * weight).sum(), (u, y, z)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


class _Block(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.act, self.kind = nn.Conv2d(4, 4, 1), nn.SiLU(), kind
        self.bias = nn.Parameter(torch.zeros(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if self.kind == "permuted":
            return h + x.permute(0, 2, 3, 1)
        return {
            "sum": lambda: h + x,
            "behind": lambda: self.act(x + h),
            "before": lambda: self.conv(x + h),
            "none": lambda: h,
            "constant": lambda: x + self.bias,
            "twice": lambda: x + x,
        }[self.kind]()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sum", (True, None)),
        ("behind", (True, "act")),
        ("before", (False, None)),
        ("none", (False, None)),
        ("constant", (False, None)),
        ("twice", (False, None)),
        ("permuted", (False, None)),
    ],
)
def test_a_shortcut_is_seen_in_a_modules_own_forward(
    kind: str, expected: tuple[bool, str | None]
) -> None:
    assert shortcut(_Block(kind)) == expected


def test_layouts_turn_into_maps() -> None:
    maps = torch.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4)
    tokens = torch.cat([torch.zeros(2, 1, 3, dtype=maps.dtype), maps.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(Layout("maps", 3, 2, 4).maps(maps), maps)
    assert torch.equal(Layout("last", 3, 2, 4).maps(maps.permute(0, 2, 3, 1)), maps)
    assert torch.equal(Layout("tokens", 3, 2, 4, extra=1).maps(tokens), maps)


def test_reading_the_family_does_not_import_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # importing it fails from here on
    for name in (
        "backbones/timm_graph",
        "backbones/timm_models",
        "backbones/timm_units",
        "families/timm_net",
    ):
        runpy.run_path(str(Path(spaces.__path__[0]) / f"{name}.py"))
    assert narrowed(FAMILY.space, {"backbone": "timm:resnet18"}, "s.yml")
