"""The commands, as a person meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from search.cli import main
from search.commands.choice import Choice


def dynafront(*arguments: str | Path) -> Result:
    """The command as a person runs it, in the current folder."""
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


COMMANDS = (
    "init",
    "check",
    "search",
    "list",
    "status",
    "finalists",
    "front",
    "merge",
    "compare",
    "spaces",
    "schema",
    "ui",
    "serve",
    "account",
    "export",
    "predict",
    "profile",
    "retune",
    "inspect",
    "sync",
    "clean",
    "delete",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [(), *((name,) for name in COMMANDS)], ids=lambda c: " ".join(c) or "dynafront"
)
def test_help_answers_without_importing_what_is_slow(command: tuple[str, ...]) -> None:
    code = (
        "import sys; from search.cli import main\n"
        f"try: main([*{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'mlflow', 'optuna', 'sklearn', 'matplotlib', 'sqlalchemy'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_every_command_teaches_in_its_help() -> None:
    assert set(main.commands) == set(COMMANDS)
    for name, command in main.commands.items():
        assert command.help, name
        assert all(p.help for p in command.params if isinstance(p, click.Option)), name


@pytest.mark.parametrize(
    ("flags", "trained"), [((), False), (("--baselines",), True), (("--ladder",), True)]
)
def test_baselines_of_all_sizes_are_a_flag_with_an_earlier_name(
    flags: tuple[str, ...], trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("search.command_line.search._run", lambda *_, **given: asked.update(given))
    file = tmp_path / "s.yml"
    file.write_text("study: s\ndata: digits\nfamilies: [gated_resnet]\n")
    assert dynafront("search", file, *flags).exit_code == 0
    assert asked["baselines"] is trained
    assert "--ladder" not in dynafront("search", "--help").output


def test_a_mistake_in_a_study_file_is_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yml").write_text(
        "study: x\ndata: digits\nfamilies: [gated_resnet]\nspace: {gated_resnet: {target: 7}}\n"
    )
    result = dynafront("search", "bad.yml")
    assert result.exit_code == 2
    assert "bad.yml: space.gated_resnet.target: 7 is not between 0 and 1" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yml"]


def test_data_that_is_not_there_is_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yml").write_text("study: x\ndata: folder:nowhere\nfamilies: [gated_resnet]\n")
    result = dynafront("search", "bad.yml")
    assert result.exit_code == 2
    assert "nowhere" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yml"]


def test_spaces_as_json_has_every_dimension_with_range_default_and_condition() -> None:
    found = json.loads(dynafront("spaces", "--json").output)
    gated = next(f for f in found["families"] if f["family"] == "gated_resnet")
    by_name = {d["name"]: d for d in gated["dimensions"]}
    assert by_name["target"]["range"] == {"low": 0.1, "high": 1.0, "log": False}
    assert by_name["anneal_step"]["when"] == "target_schedule = step"
    assert all({"name", "kind", "range", "default", "when"} <= set(d) for d in gated["dimensions"])


def test_spaces_as_a_table_names_every_dimension() -> None:
    output = dynafront("spaces").output
    assert "gate_lr_mult" in output
    assert "const_quad_per_gate" in output


def test_an_unknown_study_is_refused_by_name(in_finished: Path) -> None:
    result = dynafront("front", "tinny")
    assert result.exit_code == 2
    assert "there is no study tinny" in result.output
    assert "did you mean tiny?" in result.output


@pytest.mark.slow
def test_front_as_json_is_non_dominated_and_complete(in_finished: Path) -> None:
    found = json.loads(dynafront("front", "tiny", "--format", "json").output)
    assert set(found) == {"study", "hypervolume", "points"}
    assert 0 < found["hypervolume"] < 1
    keys = {
        "point",
        "trial",
        "kind",
        "family",
        "metric",
        "top1",
        "top5",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "macs_mean",
        "macs_p95",
        "macs_max",
    }
    for point in found["points"]:
        assert set(point) == keys | {"parameters", "knobs", "params"}
        assert point["accuracy_low"] <= point["accuracy"] <= point["accuracy_high"]
        assert (
            point["macs_mean"] <= point["macs_p95"] + 1e-9 <= point["macs_max"] + 1e-9
            or point["macs_max"] > 0
        )
    costs = [p["macs_mean"] for p in found["points"]]
    accuracies = [p["accuracy"] for p in found["points"]]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)


def test_front_plots_and_csv(in_finished: Path, tmp_path: Path) -> None:
    assert dynafront("front", "tiny", "--format", "csv").output.startswith("point,trial,")
    page, picture = tmp_path / "f.html", tmp_path / "f.png"
    assert dynafront("front", "tiny", "--plot", page).exit_code == 0
    assert dynafront("front", "tiny", "--plot", picture).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert page.stat().st_size < 1_500_000
    assert dynafront("front", "tiny", "--plot", tmp_path / "f.pdf").exit_code == 2


def test_the_table_shows_the_baselines(in_finished: Path) -> None:
    output = dynafront("front", "tiny").output
    assert "baselines that trials start from, and of other sizes" in output
    assert "baseline resnet8 x0.25" in output


def test_status_counts_trials(in_finished: Path) -> None:
    (one,) = json.loads(dynafront("status", "--json").output)
    assert one["study"] == "tiny"
    assert one["state"] == "finished"
    assert one["trials"]["by_state"] == {"complete": 3}
    assert one["trials"]["static"] >= 1
    assert "3 complete, of 3" in dynafront("status", "tiny").output


def exported(folder: Path, *options: str) -> dict[str, Any]:
    result = dynafront("export", "tiny", *options, "--out", folder)
    assert result.exit_code == 0, result.output
    return json.loads((folder / "model.json").read_text())


@pytest.mark.slow
def test_export_keeps_its_promises_and_predict_answers(in_finished: Path, tmp_path: Path) -> None:
    import numpy as np
    import onnxruntime

    from search.export.model import load_exported, pixels_of

    description = exported(tmp_path / "model", "--pick", "best")
    report = description["report"]
    parity = report["parity"]
    assert (
        parity["same_answers"] + parity["decided_by_rounding"]
        == parity["images"]
        == report["test"]["images"]
    )
    assert parity["same_answers"] >= 0.99 * parity["images"]
    assert report["test"]["macs_mean"] <= report["plain_macs"] * 1.02
    assert {"batch_1", "batch_64"} <= set(report["latency_ms"])
    assert set(report["latency_ms"]["batch_1"]) == {"onnxruntime", "torch"}
    assert report["static"]["trained"], "the study's own baseline stands beside it"
    assert report["static"]["images"] == report["test"]["images"]
    assert report["static"]["name"] in (tmp_path / "model" / "README.md").read_text()
    picture = tmp_path / "digit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)).save(picture)
    rows = json.loads(dynafront("predict", tmp_path / "model", picture, "--json").output)
    assert rows[0]["class"] in description["classes"]
    assert 0 < rows[0]["probability"] <= 1
    model = load_exported(tmp_path / "model")
    pixels = pixels_of(picture, model.net.task)
    session = onnxruntime.InferenceSession(str(tmp_path / "model" / "model.onnx"))
    theirs = session.run(None, {"pixels": pixels.numpy()})[0]
    np.testing.assert_allclose(theirs, model.net(pixels).detach().numpy(), rtol=1e-3, atol=1e-4)


def point_with_siblings() -> int:
    """Of the finished study: a point from whose training others may lie in the same file."""
    from search.export.curve import siblings
    from search.objectives import MACS
    from storage.settings import Settings
    from storage.store import Store

    store = Store.open(Settings().database_url)
    points = store.points("tiny")
    store.close()
    return next(int(p.id or 0) for p in points if siblings(p, points, (MACS,)))


@pytest.mark.slow
def test_one_file_answers_at_all_points_of_its_training(in_finished: Path, tmp_path: Path) -> None:
    import numpy as np

    import dynafront as package
    from search.export.model import load_exported

    folder = tmp_path / "model"
    points = exported(folder, "--whole-curve", "--point", str(point_with_siblings()))["points"]
    assert len(points) > 1
    assert [one["number"] for one in points] == list(range(1, len(points) + 1))
    assert sum(one["chosen"] for one in points) == 1
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "x.png")
    fast, slow = package.load(folder), load_exported(folder)
    for one in points:
        label, probability, macs = slow.predict(folder / "x.png", one["thresholds"])
        expected = (label, pytest.approx(probability, rel=1e-4), macs)
        assert fast(pixels, point=one["number"]) == expected
        assert 0 <= one["test"]["accuracy_low"] <= one["test"]["accuracy"] <= 1
    cheapest = points[0]["validation"]["macs_mean"]
    assert fast(pixels, budget=cheapest + 1) == fast(pixels, point=1)
    lines = dynafront("predict", folder, folder / "x.png", "--csv", "--point", 1).output.split("\n")
    assert lines[0] == "image,class,probability,macs,error"
    assert lines[1].split(",")[1] == fast(pixels, point=1).label
    assert "model has points 1 to" in dynafront("predict", folder, "x.png", "--point", 99).output
    card_answers_at_the_cheapest(folder, fast.classifier, points)


def card_answers_at_the_cheapest(folder: Path, classifier: Any, points: list[Any]) -> None:
    """Runs the card's program as it stands."""
    import numpy as np

    section = (folder / "README.md").read_text().split("## All its operating points")[1]
    program = [line[4:] for line in section.split("##")[0].splitlines() if line.startswith("    ")]
    found: dict[str, Any] = {}
    text = "\n".join(program).replace('"model.', f'"{folder}/model.')
    exec(compile(text, "README.md", "exec"), found)
    pixels = np.zeros((1, 1, 8, 8), np.float32)
    for busy, point in ((True, points[0]), (False, next(p for p in points if p["chosen"]))):
        given = {"pixels": pixels, "thresholds": np.array(point["thresholds"])}
        expected = classifier.session.run(["logits"], given)[0]
        np.testing.assert_array_equal(found["answer"](pixels, busy), expected)


@pytest.mark.slow
def test_a_compact_model_that_differs_is_not_written(
    in_finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import search.export.export as module

    def wrong(*arguments: Any) -> Any:
        net = original(*arguments)
        with torch.no_grad():
            net.fc.bias[0] += 0.01
        return net

    original = module.ship
    monkeypatch.setattr(module, "ship", wrong)
    result = dynafront("export", "tiny", "--out", tmp_path / "m")
    assert result.exit_code == 1
    assert "differs from the trained one" in result.output
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_a_limit_alone_picks_the_best_that_keeps_it(in_finished: Path, tmp_path: Path) -> None:
    points = json.loads(dynafront("front", "tiny", "--format", "json").output)["points"]
    limit = points[len(points) // 2]["macs_mean"]
    description = exported(tmp_path / "model", "--max-macs", str(limit))
    assert description["report"]["validation"]["macs_mean"] == limit


def test_an_impossible_limit_says_what_the_nearest_point_offers(
    in_finished: Path, tmp_path: Path
) -> None:
    result = dynafront("export", "tiny", "--min-accuracy", "0.999", "--out", tmp_path / "m")
    assert result.exit_code == 2
    assert "the best has" in result.output
    assert not (tmp_path / "m").exists()


def test_export_refuses_a_folder_that_holds_something_else(
    in_finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    result = dynafront("export", "tiny", "--out", tmp_path)
    assert result.exit_code == 2
    assert "is not empty and holds no exported model" in result.output


@pytest.mark.slow
def test_an_earlier_export_is_overwritten_only_where_that_is_asked_for(
    in_finished: Path, tmp_path: Path
) -> None:
    exported(tmp_path, "--pick", "best")
    before = (tmp_path / "model.json").read_text()
    (tmp_path / "inspect").mkdir()
    result = dynafront("export", "tiny", "--pick", "fastest", "--out", tmp_path)
    assert result.exit_code == 2
    assert "holds an exported model already; --force overwrites it" in result.output
    assert (tmp_path / "model.json").read_text() == before
    exported(tmp_path, "--pick", "fastest", "--force")
    assert (tmp_path / "model.json").read_text() != before
    assert not (tmp_path / "inspect").exists(), "its pictures were of another model"


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({}, "the cheapest point that is as good as the best"),
        ({"point": 12}, "point 12"),
        (
            {"pick": "knee", "max_macs": "30k"},
            "the knee, among the points of at most 30.0 k MACs",
        ),
        ({"max_macs": "30k"}, "the most accurate point, among the points of at most 30.0 k MACs"),
        (
            {"min_accuracy": 0.95, "family": "timm"},
            "the cheapest point, among the points of family timm and of at least 95.0 % validation accuracy",
        ),
    ],
)
def test_a_choice_says_what_holds(choice: dict[str, Any], words: str) -> None:
    assert Choice(**choice).words() == words


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "holds no model.json"),
        (lambda p: (p / "model.json").write_text("{"), "is damaged"),
    ],
)
def test_predict_refuses_what_is_no_model(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path)
    result = dynafront("predict", tmp_path, tmp_path / "x.png")
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.slow
# of MLflow's own modules
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_registered_model_is_served_by_mlflow_alone(
    in_finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    import mlflow
    import numpy as np
    import pandas as pd

    from search.export.model import load_exported

    result = dynafront("export", "tiny", "--pick", "best", "--register", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert not {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"} & set(os.environ)
    assert not mlflow.is_tracking_uri_set()
    line = result.output.split("  MLflow    ")[1].splitlines()[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # pasting the line sets it
    found: dict[str, Any] = {}
    exec(compile(line, "the line that export prints", "exec"), found)
    served, ours = found["model"], load_exported(tmp_path / "m")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    files = [(tmp_path / f"{number}.png").read_bytes() for number in range(3)]
    texts = [base64.b64encode(file).decode() for file in files]
    prepared = pixels[:, None].astype(np.float32) / 255
    ways = (files, texts, list(pixels), prepared, {"image": files}, pd.DataFrame({"image": texts}))
    expected = [ours.predict(tmp_path / f"{number}.png") for number in range(3)]
    for images in ways:
        rows = served.predict(images).to_dict("records")
        for row, (label, probability, macs) in zip(rows, expected, strict=True):
            assert (row["class"], row["macs"]) == (label, macs)
            assert row["probability"] == pytest.approx(probability, rel=1e-3)
            assert sum(row["probabilities"]) == pytest.approx(1)
    mlflow.set_tracking_uri(None)
