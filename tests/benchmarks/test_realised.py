"""Time saved over MACs saved, of networks whose decisions are forced by thresholds."""

from __future__ import annotations

import pytest
import torch

from benchmarks import realised
from benchmarks.realised import Row, built, line, rows, skipping


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    nets = {
        "gated_resnet": {"backbone": "resnet8", "width": 0.25, "forced_open": "none"},
        "multi_exit": {"backbone": "resnet18", "width": 0.125},
    }
    monkeypatch.setattr(realised, "NETS", nets)
    monkeypatch.setattr(realised, "SECONDS", 0.01)


def test_what_is_realised_is_time_saved_over_macs_saved() -> None:
    row = Row("n", 1, "torch", macs_saved=0.5, time_saved=0.4, deciding=0.1, static_ms=2.0)
    assert row.realised == pytest.approx(0.8)
    assert line(row) == "| n | 50% | 1 | torch | 40% | 0.80 | +10% | 2 |"


@pytest.mark.parametrize("name", ["gated_resnet", "multi_exit"])
def test_thresholds_take_a_network_from_all_to_little(name: str) -> None:
    net, shipped = built(name, 16)
    found = skipping(shipped, torch.rand(2, 3, 16, 16))
    macs = [one for one, _ in found]
    assert macs[0] == max(macs) >= net.plain_macs
    assert min(macs) < 0.4 * net.plain_macs
    assert len(set(macs)) == len(shipped.thresholds) + 1


@pytest.mark.slow
def test_a_network_is_measured_in_both_runtimes_at_both_batch_sizes() -> None:
    found = list(rows("gated_resnet", 16))
    assert {(row.batch, row.runtime) for row in found} == {
        (1, "onnxruntime"),
        (1, "torch"),
        (64, "onnxruntime"),
        (64, "torch"),
    }
    assert all(row.static_ms > 0 and row.macs_saved < 1 for row in found)
