"""Starting from a file of weights: what matches is loaded, what does not is said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.initial_weights import digest, initial_state, start_from

TASK = Task(channels=1, height=8, width=8, classes=4)
SMALL: dict[str, Any] = {"backbone": "resnet8", "width": 0.25}


def nets(task: Task = TASK, **values: Any) -> tuple[DynamicNet, DynamicNet]:
    """(a gated network, the plain one of its size)."""
    candidate = Candidate.of(family("gated_resnet"), SMALL | values, 1)
    return candidate.build(task, 1), candidate.baseline().build(task, 2)


def saved(path: Path, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(
        {"state_dict": tensors}, path
    )
    return str(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_plain_weights_are_loaded_and_gates_keep_their_own(
    tmp_path: Path, name: str, prefix: str
) -> None:
    net, plain = nets()
    gates = [p.detach().clone() for p in net.gate_parameters()]
    source = saved(tmp_path / name, {prefix + k: v for k, v in plain.state_dict().items()})
    count = start_from(net, source, plain.state_dict())
    assert count == sum(not k.endswith("num_batches_tracked") for k in plain.state_dict())
    for key, value in plain.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(net.state_dict()[key], value), key
    assert all(torch.equal(a, b) for a, b in zip(gates, net.gate_parameters(), strict=True))


def test_a_classifier_for_other_classes_starts_at_zero(tmp_path: Path) -> None:
    net, plain = nets()
    _, other = nets(Task(channels=1, height=8, width=8, classes=9))
    assert net.fc.weight.any()
    start_from(net, saved(tmp_path / "w.pt", other.state_dict()), plain.state_dict())
    assert not net.fc.weight.any()
    assert not net.fc.bias.any()
    assert torch.equal(net.conv1.weight, other.conv1.weight)


def test_filters_of_colour_images_are_summed_for_gray_ones(tmp_path: Path) -> None:
    net, plain = nets()
    _, colour = nets(Task(channels=3, height=8, width=8, classes=4))
    start_from(net, saved(tmp_path / "w.pt", colour.state_dict()), plain.state_dict())
    gray = torch.randn(2, 1, 8, 8)
    ours = net.conv1(gray)
    torch.testing.assert_close(ours, colour.conv1(gray.expand(-1, 3, -1, -1)))


def test_another_size_or_architecture_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    net, plain = nets()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    _, wide = nets(width=0.5)
    with pytest.raises(
        ValueError,
        match=r"has shape \(8, 1, 3, 3\), this network needs \(4, 1, 3, 3\); fix the sizes",
    ):
        start_from(net, saved(tmp_path / "a.pt", wide.state_dict()), plain.state_dict())
    with pytest.raises(
        ValueError, match=r"lacks \d+ of the \d+ tensors .* made for another architecture"
    ):
        start_from(
            net, saved(tmp_path / "b.pt", {"features.0.weight": torch.zeros(2)}), plain.state_dict()
        )
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_a_file_that_would_execute_something_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(
        ValueError, match=r"also holds builtins\.print, which reading would execute"
    ) as found:
        initial_state(str(tmp_path / "evil.pt"))
    assert "\n" not in str(found.value)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere.pt", "is not a file"),
        ("torchvision:resnet51", "torchvision has no model resnet51; did you mean resnet5"),
        (
            "torchvision:resnet50.V1",
            "no weights V1 of resnet50; it has IMAGENET1K_V1, IMAGENET1K_V2",
        ),
    ],
)
def test_what_is_not_there_is_said(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        initial_state(source)


def test_weights_of_torchvision_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def model(name: str, weights: str) -> torch.nn.Module:
        asked.append(weights)
        return torch.nn.Linear(2, 2)

    monkeypatch.setattr("torchvision.models.get_model", model)
    initial_state.cache_clear()
    for source in ("torchvision:resnet50", "torchvision:resnet50.IMAGENET1K_V1"):
        assert set(initial_state(source)) == {"weight", "bias"}
    initial_state.cache_clear()
    assert asked == ["DEFAULT", "IMAGENET1K_V1"]


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    one = saved(tmp_path / "one.pt", {"a": torch.zeros(2)})
    before = digest(one)
    assert before == digest(one)
    saved(tmp_path / "one.pt", {"a": torch.ones(2)})
    assert digest(one) != before
