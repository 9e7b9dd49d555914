"""`dynafront check`: what a search would find and take, without training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from search.cli import main
from search.commands.estimate import estimate
from search.commands.study_check import checked_study
from search.run.data import load_data
from search.run.heartbeat import Steps
from search.run.ray_offer import Offer
from search.run.speed import Speed
from search.spec import parse_study
from storage.settings import Settings
from storage.store import Store
from tests.search.conftest import TINY, dynafront


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with the tiny study's file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNAFRONT_DATA", str(tmp_path / "cache"))
    Path("tiny.yml").write_text(TINY)
    load_data.cache_clear()
    return tmp_path


def test_a_good_file_is_ready_and_nothing_is_written(here: Path) -> None:
    result = dynafront("check", "tiny.yml")
    assert result.exit_code == 0, result.output
    assert "images    256 to train on, 144 for validation, 360 for test; 8 x 8, gray; 10" in (
        result.output
    )
    assert "tiny.yml is ready: dynafront search tiny.yml" in result.output
    assert [one.name for one in here.iterdir()] == ["tiny.yml"]


def test_programs_read_what_was_found(here: Path) -> None:
    result = CliRunner().invoke(main, ["check", "tiny.yml", "--json"])
    found = json.loads(result.stdout)
    assert found["images"]["classes"] == 10
    assert found["trials"] == {"budget": 3, "ended": 0}
    assert 0 < found["seconds"]["low"] <= found["seconds"]["high"] < 600
    assert found["space"]["gated_resnet"]["combinations"] > 1
    assert found["sizes"] == {"searched": 1, "beyond_limits": 0}


@pytest.mark.slow
def test_the_disk_space_is_about_what_a_search_takes(here: Path, finished: Path) -> None:
    found = json.loads(CliRunner().invoke(main, ["check", "tiny.yml", "--json"]).stdout)
    trainings = 3 + 1  # and the baseline that they start from
    written = (finished / "dynafront-data/checkpoints/tiny").glob("search-*")
    each = sum(file.stat().st_size for file in written) / 3
    assert found["checkpoint_bytes"]["high"] == pytest.approx(trainings * each, rel=0.4)


@pytest.mark.slow
def test_a_longer_study_takes_longer_and_more_workers_less(here: Path) -> None:
    def seconds(file: str, *flags: str) -> float:
        result = CliRunner().invoke(main, ["check", file, "--json", *flags])
        return float(json.loads(result.stdout)["seconds"]["high"])

    Path("long.yml").write_text(TINY.replace("trials: 3", "trials: 300"))
    Path("short.yml").write_text(TINY.replace("trials: 3", "trials: 300, hours: 0.001"))
    assert seconds("long.yml") > 20 * seconds("tiny.yml")
    assert seconds("long.yml", "--workers", "4") < 0.6 * seconds("long.yml")
    assert seconds("short.yml") == pytest.approx(3.6)


def test_a_study_on_a_cluster_says_what_that_has(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Offer("head:6379", nodes=2, cpus=8, gpus=0, trials=4)
    monkeypatch.setattr("search.commands.check.offer", lambda run: there)
    result = dynafront("check", "tiny.yml", "--engine", "ray")
    assert result.exit_code == 0, result.output
    said = (
        "cluster   the Ray cluster at head:6379: 2 nodes, 8 CPUs, 0 GPUs; room for 4 trials at once"
    )
    assert said in result.output
    assert "on nodes as fast as this machine (cpu, 4 at once)" in result.output
    assert "tiny.yml is ready: dynafront search tiny.yml --engine ray" in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU too")
def test_a_study_for_the_gpus_of_a_cluster_is_timed_on_a_machine_without(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Offer("head:6379", nodes=2, cpus=8, gpus=4, trials=4)
    monkeypatch.setattr("search.commands.check.offer", lambda run: there)
    Path("tiny.yml").write_text(TINY.replace("run: {", "run: {engine: ray, device: cuda, "))
    result = dynafront("check", "tiny.yml")
    assert result.exit_code == 0, result.output
    assert "on nodes as fast as this machine (cpu, 4 at once)" in result.output


def test_what_has_ended_is_not_counted_again(in_finished: Path) -> None:
    before = (in_finished / "dynafront-data/dynafront.db").read_bytes()
    result = dynafront("check", "tiny.yml")
    assert "trials    3, of which 3 have ended" in result.output
    assert "time      none, all trials have ended" in result.output
    counted = CliRunner().invoke(main, ["check", "tiny.yml", "--json"])
    assert json.loads(counted.stdout)["seconds"] == {"low": 0.0, "high": 0.0}
    assert (in_finished / "dynafront-data/dynafront.db").read_bytes() == before


def test_baselines_that_are_trained_are_not_counted_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "search.commands.estimate._speed", lambda *_, **__: Speed(epoch=1.0, points=0.0)
    )
    two_sizes = TINY.replace("width: 0.25", "width: [0.25, 0.5]")
    with Steps(Console(quiet=True)) as step:
        checked = checked_study(parse_study(two_sizes, "s"), Settings(), step)
    most = [estimate(checked, 3, 1, trained).seconds[1] for trained in (0, 1, 2, 9)]
    assert most == [3 * 2 + 2 * 2, 3 * 2 + 2, 3 * 2, 3 * 2]
    assert estimate(checked, 0, 1, 1).seconds == (0.0, 0.0), "nobody starts from the other one"


def test_a_study_that_was_begun_otherwise_is_refused_as_by_search(in_finished: Path) -> None:
    Path("other.yml").write_text(TINY.replace("epochs: 2", "epochs: 3"))
    results = [dynafront(command, "other.yml") for command in ("check", "search")]
    Path("other.yml").unlink()
    assert [result.exit_code for result in results] == [2, 2]
    assert "exists with another budget.epochs" in results[0].output
    assert results[0].output.splitlines()[-1] == results[1].output.splitlines()[-1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("data: digits", "data: folder:images", "a/0.png"),
        ("data: digits", "data: folder:nowhere", "does not exist"),
        ("budget:", "limits: {parameters: 10}\nbudget:", "no network of the space can be trained"),
        ("budget:", "init_from: nowhere.pt\nbudget:", "nowhere.pt"),
        ("precision: float32", "device: cuda", "finds no GPU here"),
        ("backbone: resnet8", "backbone: resnet8, granularity: all", "granularity"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    here: Path, old: str, new: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for part in ("train", "test"):
        for name in ("a", "b"):
            (here / "images" / part / name).mkdir(parents=True)
            for i in range(12):
                pixels = np.full((8, 8), 20 * i, np.uint8)
                Image.fromarray(pixels).save(here / "images" / part / name / f"{i}.png")
    (here / "images/train/a/0.png").write_bytes(b"broken")
    Path("wrong.yml").write_text(TINY.replace(old, new))
    result = dynafront("check", "wrong.yml")
    assert result.exit_code == 2, result.output
    assert message in result.output.splitlines()[-1]
    assert not Path("dynafront-data").exists()


@pytest.mark.parametrize("command", ["check", "search"])
def test_without_the_store_of_checkpoints_nothing_starts(here: Path, command: str) -> None:
    away = here / "disk" / "checkpoints"
    away.parent.write_text("a file, where no folder can be made")
    Path("mlflow.yml").write_text(f"storage: {{checkpoints: {away}}}")
    result = dynafront(command, "tiny.yml")
    assert result.exit_code == 1, result.output
    assert str(away) in result.output
    assert not Path("dynafront-data").exists(), "no database is made"


def test_no_table_is_made_for_a_study_that_is_not_there(in_finished: Path) -> None:
    Path("new.yml").write_text(TINY.replace("study: tiny", "study: new"))
    assert dynafront("check", "new.yml").exit_code == 0
    Path("new.yml").unlink()
    settings = Settings()
    assert Store.open(settings.database_url).find_study("new") is None
