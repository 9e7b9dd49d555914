"""The model card says what the exported model is: static or not, and beside which static network."""

from __future__ import annotations

from typing import Any

import pytest

from search.export.card import card, gates_text

MEASURED = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.93, "images": 360}
MEASURED |= {"macs_mean": 5e4, "macs_p95": 6e4, "macs_max": 7e4}
SPREAD = {"median": 0.0312, "low": 0.03, "high": 0.0345}
RUNTIME = {"exported": SPREAD, "static": {"median": 2.0, "low": 1.9, "high": 2.1}, "ratio": 0.0156}
STATIC = {
    "name": "baseline 1 (baseline resnet8)",
    "why": "the cheapest static network",
    "trained": True,
}
STATIC |= {
    **MEASURED,
    "accuracy": 0.95,
    "parameters": 12_345,
    "standing": "significantly less accurate",
}
LATENCY = {
    "device": "CPU, x86_64",
    "threads": 2,
    "versions": {"onnxruntime": "1.22", "torch": "2.9"},
}
LATENCY |= {f"batch_{size}": {"onnxruntime": RUNTIME, "torch": RUNTIME} for size in (1, 64)}


def described(**report: Any) -> dict[str, Any]:
    """A description with this in its report."""
    parity = {"images": 360, "same_answers": 360, "largest_logit_difference": 0.0}
    return {
        "study": "s",
        "kind": "search",
        "trial": 3,
        "classes": ["a", "b"],
        "knobs": {},
        "params": {},
        "family": "gated_resnet",
        "task": {"channels": 1, "height": 8, "width": 8},
        "network": {"deployed": "resnet"},
        "preprocessing": {"resize": "crop", "bits": 16, "background": "white"},
        "epochs": {"planned": 1, "trained": 1},
        "report": {
            "test": MEASURED,
            "static": STATIC,
            "validation": MEASURED,
            "selection_bias": {"difference": 0.0, "low": 0.0, "high": 0.0, "exit_thresholds": None},
            "latency_ms": LATENCY,
            "parity": {**parity, "same_answers_before_removing_gates": 360},
            "plain_macs": 1e5,
            "parameters": 900,
            "parameters_trained": 1000,
            "gates": {"dynamic": 3, "removed_open": 2, "removed_closed": 5},
            "dynamic": True,
            **report,
        },
    }


def test_a_network_in_which_nothing_decides_is_called_static() -> None:
    gates = {"dynamic": 0, "removed_open": 8, "removed_closed": 0}
    text = card(described(dynamic=False, gates=gates))
    assert "It is static: no gate or exit decides anything" in text
    assert "Both compute\nthe same for every image." in text
    assert "only what that image needs" not in text
    assert "skipped for real" not in text


def test_a_network_in_which_a_gate_decides_computes_what_an_image_needs() -> None:
    text = card(described())
    assert "It computes per image only what that image needs." in text
    assert "static:" not in text


def test_the_static_network_stands_beside_the_model_with_the_same_measures() -> None:
    rows = [line for line in card(described()).splitlines() if line.startswith("| ")]
    assert rows[0] == "| on 360 test images | this model | baseline 1 (baseline resnet8) |"
    assert (
        "| accuracy (95 % interval) | 90.00% (85.0% to 93.0%) | 95.00% (85.0% to 93.0%) |" in rows
    )
    assert "| parameters | 900 | 12,345 |" in rows
    assert (
        "| latency, batch 1, onnxruntime | 0.0312 ms (0.03 to 0.0345) | 2 ms (1.9 to 2.1) |" in rows
    )
    assert "On these images this model is significantly less accurate" in card(described())


def test_latency_says_where_it_was_measured() -> None:
    text = card(described())
    assert "on CPU, x86_64, 2 threads; onnxruntime 1.22, torch 2.9." in text


def test_a_static_network_that_was_not_trained_has_costs_alone() -> None:
    cost = {key: value for key, value in MEASURED.items() if key.startswith("macs")}
    static = {**cost, "name": "static network", "why": "of the same backbone", "parameters": 5}
    text = card(described(static={**static, "trained": False, "standing": None}))
    assert "| accuracy (95 % interval) | 90.00% (85.0% to 93.0%) | not trained |" in text


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (900, "; 100 of 1,000 parameters cut out"),
        (1000, "; settled gates are not run, and their weights stay in the files"),
    ],
)
def test_settled_gates_are_cut_out_or_said_to_stay(left: int, said: str) -> None:
    text = gates_text(described(parameters=left)["report"])
    assert text == f"3 decide per image, 2 settled open, 5 settled closed{said}"


def test_the_card_names_the_metric_and_has_top_1_beside_it() -> None:
    test, static = MEASURED | {"top1": 0.97}, STATIC | {"top1": 0.96}
    rows = card(described(metric="balanced_accuracy", test=test, static=static)).splitlines()
    assert (
        "| balanced accuracy (95 % interval) | 90.00% (85.0% to 93.0%) | 95.00% (85.0% to 93.0%) |"
        in rows
    )
    assert "| top-1 accuracy | 97.00% | 96.00% |" in rows
    assert any(row.startswith("| validation balanced accuracy |") for row in rows)
    assert any("(a test by random swaps of answers, 95 %)" in row for row in rows)


def test_the_card_has_top_5_accuracy_where_there_are_more_than_five_classes() -> None:
    test, static = MEASURED | {"top5": 0.991}, STATIC | {"top5": 0.985}
    assert "| top-5 accuracy | 99.10% | 98.50% |" in card(described(test=test, static=static))
    assert "top-5" not in card(described())


def test_a_card_says_which_epoch_the_weights_are_of_where_it_is_not_the_last() -> None:
    description = described()
    assert "Training: 1 epochs\n" in card(description)
    description["epochs"] = {"planned": 9, "trained": 9, "kept": 7}
    said = "9 epochs; the weights are those of epoch 7, the most accurate one on validation"
    assert said in card(description)
    description["epochs"] = {"planned": 9, "trained": 9, "kept": 9}
    assert "Training: 9 epochs\n" in card(description)


def test_the_tables_prediction_stands_beside_what_was_measured() -> None:
    assert "by the study's table" not in card(described())
    found = {"predicted_ms": 2.0, "measured_ms": 3.0, "static_ms": 4.0, "ratio": 1.5}
    text = card(described(predicted=found | {"table": "here"}))
    said = "2 ms predicted, 3 ms measured: 1.50 times that; static 4 ms (here)"
    assert f"| latency of an image by the study's table | {said} |" in text
    alone = {"predicted_ms": 2.0, "why": "the latency table is of phone"}
    said = "2 ms predicted, not measured: the latency table is of phone"
    assert said in card(described(predicted=alone))
