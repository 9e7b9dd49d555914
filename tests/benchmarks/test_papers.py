"""Tables of papers beside ours: which training is which row, what is read of it, and what is said of it."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from benchmarks.paper_tables import (
    dynamic_transformers,
    layer_and_channel_gates,
    layershuffle,
    merged,
    probabilistic_gates,
    scan,
)
from benchmarks.paper_tables.dynamic_transformers import TABLE_1 as DT_1
from benchmarks.paper_tables.every import TABLES
from benchmarks.paper_tables.layer_and_channel_gates import TABLE_1 as DLCG_1
from benchmarks.paper_tables.merged import JOINT
from benchmarks.paper_tables.probabilistic_gates import FIGURE_9, IMAGENET_50, LOSSES, TABLE_S5
from benchmarks.paper_tables.readings import READINGS, Reading
from benchmarks.paper_tables.table import SCALES, PaperTable, Row
from benchmarks.papers import Ours, printed, static_nets
from search.run.data import task_of
from search.spec import exact_settings, parse_study
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from trainers.data.splits import DataSpec, load
from trainers.exit_logits import ExitLogits

EACH = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))


@pytest.mark.parametrize("scale", SCALES)
@EACH
def test_each_setting_has_a_row_and_each_baseline_can_be_trained(
    table: PaperTable, scale: str
) -> None:
    spec = parse_study(table.text(scale), table.name)
    rows, settings = table.rows_at(scale), exact_settings(spec)
    assert {row.setting for row in rows} - {None} == set(range(len(settings)))
    for row in rows:
        assert row.reading in READINGS or row.reading in JOINT
        if row.setting is None:
            (made,) = static_nets(spec, [row])
            assert row.baseline.items() <= made.params.items()
            assert made.params["gated"] is False


def values(table: PaperTable, row: Row) -> dict[str, Any]:
    """The setting of a row at the scale of the paper."""
    assert row.setting is not None
    return exact_settings(parse_study(table.text("gpu"), "s"))[row.setting][1]


def test_the_rows_of_the_gates_table_are_the_loss_factors_that_their_labels_say() -> None:
    for row in DLCG_1.rows:
        own = values(DLCG_1, row)
        label = f"layer {own['lambda_layer']:.2f}, channel {own['gamma_channel']:.2f}"
        assert label == row.label


def test_the_rows_of_the_transformers_table_are_the_networks_that_their_labels_say() -> None:
    settings = exact_settings(parse_study(DT_1.text("gpu"), "s"))
    for row in (one for one in DT_1.rows if one.setting is not None):
        family, own = settings[row.setting or 0]
        name = "DT" if family == "skip_vit" else str(own["aggregator"]).upper()
        assert row.label == f"{name}, {own['layers']} layers"


@pytest.mark.parametrize("name", ["pg-table-s5", "pg-imagenet-50", "pg-imagenet-101"])
def test_the_rows_of_probabilistic_gates_are_the_gates_losses_and_targets_of_their_labels(
    name: str,
) -> None:
    kinds = {"dependent": "Dep", "independent": "Ind", "per_gate": "PG", "per_batch": "PB"}
    settings = exact_settings(parse_study(TABLES[name].text("gpu"), "s"))
    for row in TABLES[name].rows:
        own = settings[row.setting or 0][1]
        label = f"{kinds[str(own['gate'])]} {kinds.get(str(own['loss']))}"
        if str(own["target_vector"]).startswith("aig"):
            label = "AIG"
        if own["target_schedule"] == "constant":
            ensemble = ", ensemble" if row.reading == "drawn together" else ""
            assert row.label == f"{label}, target {own['target']}{ensemble}"
        else:
            assert row.label.startswith("Dep PB")
            assert row.label.endswith(str(own["target"]))


def test_each_row_of_scan_is_of_the_network_in_its_label() -> None:
    for table in (TABLES["scan-table-1"], TABLES["scan-table-2"]):
        settings = exact_settings(parse_study(table.text("gpu"), "s"))
        for row in table.rows:
            own = row.baseline if row.setting is None else settings[row.setting][1]
            assert row.label.startswith(f"{own['backbone']}, ")


def test_each_row_of_layershuffle_is_of_the_approach_in_its_label() -> None:
    for name in layershuffle.TABLE_1:
        settings = exact_settings(parse_study(TABLES[name].text("gpu"), "s"))
        assert len(TABLES[name].rows) == 8
        for row in TABLES[name].rows:
            own = settings[row.setting or 0][1]
            moved = own["order_train"] == "shuffle"
            variant = "" if own["ls_variant"] == "plain" else f"-{own['ls_variant']}"
            said = f"LayerShuffle{variant}" if moved else "baseline"
            assert row.label.startswith(f"{said}, ")
            assert (row.reading == "any order") == row.label.endswith("in any order")
            assert own["class_tokens"] == (2 if "deit" in name else 1)
            assert own["dim"] == 768


def test_layers_are_left_out_and_shuffled_at_once() -> None:
    asked: list[tuple[Knobs, int]] = []

    def under(knobs: Knobs, draw: int = 0) -> Any:
        asked.append((knobs, draw))
        return SimpleNamespace(accuracy=0.1 * draw, macs_mean=2.0)

    net: Any = SimpleNamespace(trial=SimpleNamespace(params={"layers": 12}), under=under)
    read = READINGS["a quarter, any order"](net, 0)
    assert read == Reading(pytest.approx(0.2), 2.0)
    assert all(knobs.order == "arbitrary" and len(knobs.keep or ()) == 3 for knobs, _ in asked)
    assert [draw for _, draw in asked] == list(range(5))
    assert len({knobs.keep for knobs, _ in asked}) > 1


def test_merged_models_are_read_of_all_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged, "MODELS", 3)
    values = {"layers": 2, "dim": 32, "patch": 4}
    data = load(DataSpec(source="digits", validation=0.2, train_limit=64))
    candidate = Candidate.of(family("shuffled_vit"), values, 1)
    trial = SimpleNamespace(params=values)
    nets: Any = [
        SimpleNamespace(
            network=candidate.build(task_of(data), seed), data=data, trial=trial, execution=None
        )
        for seed in (0, 1)
    ]
    assert len(JOINT["merged"](nets)) == 3
    (both,) = JOINT["together, any order"](nets)
    assert both.macs == 2 * nets[0].network.plain_macs


def test_published_numbers_fit_each_other() -> None:
    # answers of all exits are those of each exit to its own images
    own = [row for row in FIGURE_9.rows if row.reading == "exit chosen"]
    shares, right = [row.share or 0.0 for row in own], [row.accuracy or 0.0 for row in own]
    assert sum(shares) == pytest.approx(1)
    whole = FIGURE_9.rows[0].accuracy
    assert sum(s * r for s, r in zip(shares, right, strict=True)) == pytest.approx(whole, abs=5e-5)
    # gates that read no image close whole blocks: each costs 218,365,952 multiply-accumulates
    macs = {label: macs for label, _, _, macs, _ in IMAGENET_50}
    for label, closed in (("0.6", 4), ("0.5", 5), ("0.4", 6)):
        whole_net = macs["Ind PG, target 0.5"]
        assert macs[f"Ind PB, target {label}"] == whole_net - closed * 218_365_952
    # the text's table has the best error, which is never above the final one
    assert len(TABLE_S5.rows) == 9 * len(LOSSES) + 4
    best = {"Dep PB": 0.9338, "Ind PB": 0.929, "Dep PG": 0.925, "Ind PG": 0.9285}
    final = {row.label: row.accuracy or 1.0 for row in TABLE_S5.rows}
    assert all(final[f"{name}, target 0.5"] <= value for name, value in best.items())


@EACH
def test_the_exact_study_is_as_published(table: PaperTable) -> None:
    keys = yaml.safe_load(table.text("gpu"))
    assert [keys[one] for one in ("warm_start", "early_stopping", "cascades")] == [False] * 3
    assert keys.get("repeats", 1) >= 3 or "imagenet" in keys["data"]
    assert "train_limit" not in keys


def ours(*accuracies: float, published: float | None = 0.9, **row: Any) -> Ours:
    return Ours(Row("one", published, 2e6, 0, **row), [Reading(a, 1e6, 0.5) for a in accuracies])


def test_a_verdict_needs_the_published_recipe_and_repeats() -> None:
    # Student's t with 2 degrees of freedom: 4.303 standard errors of 0.00577
    assert ours(0.89, 0.90, 0.91).half_width == pytest.approx(0.02484, abs=1e-4)
    assert ours(0.89, 0.90, 0.91).verdict("gpu") == "as published"
    assert ours(0.94, 0.95, 0.96).verdict("gpu") == "above"
    assert ours(0.84, 0.85, 0.86).verdict("gpu") == "below"
    assert ours(0.9).verdict("gpu") == "one repeat has no interval"
    assert ours(0.89, 0.90, 0.91).verdict("cpu") == "not at cpu scale"
    assert ours(0.89, 0.90, published=None).verdict("gpu") == "published as a picture"


def test_the_table_has_a_line_for_each_row_and_says_which_failed_and_what_differs() -> None:
    text = printed(DLCG_1, [ours(0.89, 0.91), ours(), ours(0.5)], "gpu")
    assert "| one | 90.00% | 90.00% +- 12.71 | 2 | 2.00 M | 1.00 M | as published |" in text
    assert "| one | 90.00% | failed | 0 | 2.00 M |  |  |" in text
    assert "Differs from the paper: 2 % of the training images are held out" in text


def test_methods_of_others_stand_below_with_what_the_paper_says_of_them() -> None:
    text = printed(TABLES["pg-imagenet-50"], [ours(0.7, top5=0.9)], "gpu")
    he = "| ResNet-50, channels pruned (He et al., 2017) | 72.30% |  |  | 2726.00 M |  | 90.80% |  | not trained here |"
    assert he in text
    snapshots = "| ResNet-50, snapshot ensemble (Huang et al., 2017) | 76.04% |  |  |  |  |  |  | not trained here |"
    assert snapshots in text


def test_an_ensemble_of_drawn_gates_has_refreshed_statistics() -> None:
    asked: list[Knobs] = []

    def under(knobs: Knobs, draw: int = 0) -> Any:
        asked.append(knobs)
        return SimpleNamespace(
            accuracy=0.5, macs_mean=5.0, rates={}, answers=SimpleNamespace(top5=0.9)
        )

    own = SimpleNamespace(passes=5, recalibration_batches=200, recalibration_images=1024)
    net: Any = SimpleNamespace(spec=SimpleNamespace(measure=own), under=under)
    assert READINGS["drawn together"](net, 0) == Reading(0.5, 5.0, top5=0.9)
    (knobs,) = asked
    assert (knobs.policy, knobs.passes, knobs.recalibrate) == ("ensemble", 5, "sample")
    assert (knobs.recalibration_batches, knobs.recalibration_images) == (200, 1024)


def test_measures_beside_accuracy_stand_there_where_they_were_published() -> None:
    text = printed(DLCG_1, [ours(0.9, rate=0.4), ours(math.nan)], "smoke")
    assert "| one | 90.00% | 90.00% | 1 | 2.00 M | 1.00 M | 0.400 | 0.500 |" in text
    assert "| one | 90.00% | no image | 1 | 2.00 M | 1.00 M |  | 0.500 |" in text


def test_exits_are_read_alone_and_together() -> None:
    # two exits and the deepest head, four images of the classes 0, 0, 1, 1
    logits = torch.zeros(3, 4, 2)
    logits[0, :, 0] = 1.0  # always the first class
    logits[1, :, 1] = 3.0  # always the second, and surer
    logits[2] = torch.tensor([[2.5, 0.0], [2.5, 0.0], [0.0, 1.0], [0.0, 1.0]])  # right
    labels = torch.tensor([0, 0, 1, 1])
    macs = torch.tensor([[1.0] * 4, [2.0] * 4, [3.0] * 4])
    net: Any = SimpleNamespace(exits=ExitLogits(logits, macs, labels, {}))
    read = [READINGS["exit"](net, k) for k in range(3)]
    assert [(one.accuracy, one.macs) for one in read] == [(0.5, 1.0), (0.5, 2.0), (1.0, 3.0)]
    assert READINGS["ensemble"](net, 0)[:2] == (1.0, 3.0)


def test_what_gates_let_leave_is_read_of_all_images_and_of_those_alone() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    net: Any = SimpleNamespace(
        passed=SimpleNamespace(
            label_N=labels,
            exit_N=torch.tensor([0, 1, 1, 1]),
            correct_N=torch.tensor([True, True, False, True]),
            macs_N=torch.tensor([1.0, 2.0, 2.0, 2.0]),
            exit_answers=[torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 0, 1])],
            exit_macs=[torch.ones(4), 2 * torch.ones(4)],
        )
    )
    assert READINGS["exit alone"](net, 0) == Reading(0.5, 1.0, share=0.25)
    assert READINGS["exit chosen"](net, 0) == Reading(1.0, 1.0, share=0.25)
    assert READINGS["exit chosen"](net, 1) == Reading(2 / 3, 2.0, share=0.75)
    assert math.isnan(READINGS["exit chosen"](net, 2).accuracy)


def test_the_tables_of_these_papers_are_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "papers.md").read_text()
    modules = (
        probabilistic_gates,
        layer_and_channel_gates,
        scan,
        dynamic_transformers,
        layershuffle,
    )
    for table in chain.from_iterable(module.TABLES for module in modules):
        assert f"`{table.name}`" in text, table.name
