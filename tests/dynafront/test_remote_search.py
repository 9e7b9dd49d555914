"""A study that is launched on a server from a program: followed, its front read, a point exported and used."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dynafront
from tests.dynafront.test_remote import ended, started

PATIENCE = 240.0  # seconds: other tests share the cores


def photos(folder: Path) -> Path:
    """Dark images and bright ones, 12 pixels wide."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 80), ("test", 40)):
        for name, least in (("dark", 0), ("bright", 130)):
            here = folder / part / name
            here.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(least, least + 126, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(here / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_study_is_launched_followed_read_and_exported(tmp_path: Path) -> None:
    process, address = started(tmp_path, "ui", "--no-browser")
    try:
        server = dynafront.connect(address)
        keys = {
            "study": "light",
            "data": photos(tmp_path / "photos"),
            "families": ["gated_resnet"],
            "image_size": 8,
            "space": {"gated_resnet": {"backbone": "resnet8", "width": 0.25, "batch": 16}},
            "budget": {"trials": 1, "epochs": 2},
            "validation": 0.4,
            "run": {"precision": "float32", "threads": 1},
        }
        study = server.search(workers=0, baselines=True, show=False, **keys)
        assert [one.name for one in server.studies()] == ["light"], "it has begun"
        until, states = time.monotonic() + PATIENCE, [study.status()["state"]]
        while states[-1] != "finished":
            assert time.monotonic() < until, study.status()
            time.sleep(0.5)
            states.append(study.status()["state"])
        assert set(states) <= {"searching", "finished"}
        front = study.front()
        assert front["accuracy"].max() > 0.9
        assert study.status()["trials"]["by_state"] == {"complete": 1}
        other = keys | {"budget": {"trials": 1, "epochs": 3}}
        with pytest.raises(ValueError, match="epochs"):
            server.search(workers=0, show=False, **other)
        best = study.best()
        assert best.id in set(front["point"])
        model = best.export(tmp_path / "model", show=False)
        told = {model(one).label for one in (tmp_path / "photos/test/dark").iterdir()}
        assert told == {"dark"}
    finally:
        ended(process)
