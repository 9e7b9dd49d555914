"""The comparison of threshold searches, on a table small enough for a test."""

from __future__ import annotations

import sys

import pytest

from benchmarks import thresholds


@pytest.mark.slow
def test_every_method_has_a_row_and_no_grid_of_scan_s_levels_beats_all_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(thresholds, "FRESH", 500)
    monkeypatch.setattr(
        sys, "argv", ["thresholds.py", "--exits", "2", "--images", "300", "--seeds", "1"]
    )
    thresholds.main()
    printed = capsys.readouterr().out
    rows = thresholds.methods(2)
    assert all(name in printed for name in rows)
    table = thresholds.drawn(2, 800, 0)
    volumes = {
        name: thresholds.measured(method, [table]).hypervolume[0] for name, method in rows.items()
    }
    best = volumes["SCAN's levels, all, grid"]
    assert all(volume <= best for name, volume in volumes.items() if name.startswith("SCAN's"))
    assert max(volumes.values()) == pytest.approx(volumes["levels by gain, at most 2^22, grid"])
