"""Claims of papers: verdicts on made-up numbers, what is listed, what a run leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.claims import (
    layer_and_channel_gates,
    layershuffle,
    measures,
    probabilistic_gates,
    scan,
)
from benchmarks.claims.claim import Claim, Variant
from benchmarks.claims.every import CLAIMS, TITLES, chosen
from benchmarks.claims.lab import Lab
from benchmarks.claims.power import plain_already, power_of, seeds_needed
from benchmarks.claims.report import markdown, rows
from benchmarks.claims.scales import SCALES, SMOKE, scale_on
from benchmarks.claims.verdicts import FAILS, HOLDS, UNDECIDED, newcombe, paired, verdict
from search.run.data import task_of
from search.spec import read_study
from spaces.contract.space import dimensions
from spaces.contract.task import Task
from trainers.data.splits import DataSpec

ROOT = Path(__file__).parents[2]
DIGITS = Task(channels=1, height=8, width=8, classes=10)
NAMES = [claim.name for claim in CLAIMS]

BETTER = [(0.72, 0.70), (0.73, 0.71), (0.71, 0.69)]
MIXED = [(0.72, 0.70), (0.68, 0.71), (0.71, 0.70)]


def test_a_difference_is_judged_by_the_side_its_interval_is_on() -> None:
    worse = [(b, a) for a, b in BETTER]
    assert [verdict(p, "above").word for p in (BETTER, worse, MIXED)] == [HOLDS, FAILS, UNDECIDED]
    assert [verdict(p, "below").word for p in (BETTER, worse, MIXED)] == [FAILS, HOLDS, UNDECIDED]


def test_close_means_an_interval_within_the_margin_and_no_worse_asks_for_one_side_only() -> None:
    near, far = (
        [(0.700, 0.701), (0.701, 0.700), (0.702, 0.701)],
        [(0.80, 0.70), (0.81, 0.71), (0.80, 0.701)],
    )
    assert verdict(near, "close", margin=0.01).word == HOLDS
    assert verdict(near, "close", margin=0.001).word == UNDECIDED
    assert verdict(far, "close", margin=0.01).word == FAILS
    assert verdict(far, "no_worse", margin=0.01).word == HOLDS
    assert verdict([(b, a) for a, b in far], "no_worse", margin=0.01).word == FAILS
    assert verdict(near, "no_worse", margin=0.01).word == HOLDS


def test_a_t_interval_by_hand() -> None:
    # differences 1, 2, 3: mean 2, sample deviation 1, t(0.975, 2 degrees of freedom) = 4.302653
    low, high = paired([(1, 0), (2, 0), (3, 0)])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_newcombes_published_examples() -> None:
    assert newcombe(0.9, 0.3, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert newcombe(6 / 7, 2 / 7, 7) == pytest.approx((0.0582, 0.8062), abs=5e-5)
    assert newcombe(1.0, 0.0, 10) == pytest.approx((0.6075, 1.0), abs=5e-5)


def test_one_seed_is_judged_by_its_images_and_not_at_all_without() -> None:
    assert verdict([(0.9, 0.6)], "above", images=500).word == HOLDS
    assert verdict([(0.61, 0.6)], "above", images=500).word == UNDECIDED
    assert verdict([(0.9, 0.6)], "above").word == UNDECIDED


def test_seeds_that_agree_to_the_image_are_not_certain() -> None:
    same = [(0.71, 0.70), (0.61, 0.60)]
    assert verdict(same, "above").word == HOLDS
    assert verdict(same, "above", images=100).word == UNDECIDED


def test_the_power_of_a_t_test_is_that_of_published_tables() -> None:
    # Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988: two-sided 5 %, one sample
    assert power_of(1.0, 0.5, 34) == pytest.approx(0.808, abs=1e-3)
    assert power_of(1.0, 1.0, 10) == pytest.approx(0.803, abs=1e-3)
    assert (power_of(1.0, 1.0, 1), power_of(0.0, 1.0, 2)) == (0.0, 1.0)
    drawn = np.random.default_rng(0).normal(0, 1.0, (400, 20))
    within = [verdict([(x, 0.0) for x in one], "close", margin=0.8).word == HOLDS for one in drawn]
    assert power_of(1.0, 0.8, 20, sides=2) == pytest.approx(np.mean(within), abs=0.05)


def test_seeds_are_as_few_as_the_power_needs_and_a_plain_claim_needs_no_more() -> None:
    assert seeds_needed(1.0, 0.5, 0.8, 100) == 34
    assert seeds_needed(1.0, 0.5, 0.8, 20) == 20
    assert seeds_needed(1.0, 0.5, 0.8, 100, sides=2) > 34
    far = [(0.9, 0.1), (0.91, 0.1), (0.9, 0.11)]
    near = [(0.72, 0.70), (0.725, 0.70), (0.715, 0.70)]
    assert plain_already(far, "above")
    assert verdict(near, "above").word == HOLDS
    assert not plain_already(near, "above")


def test_nothing_to_compare_is_undecided_and_exact_claims_need_every_seed() -> None:
    assert verdict([], "above") == verdict([], "zero")
    assert verdict([], "above").word == UNDECIDED
    assert verdict([(0.0, 0.3), (0.0, 0.2)], "zero").word == HOLDS
    assert verdict([(0.0, 0.3), (1e-12, 0.2)], "zero").word == FAILS
    assert verdict([(0.0, 0.0)], "zero").word == FAILS
    with pytest.raises(ValueError, match="rule: about is not one of above"):
        verdict([], "about")


def test_every_claim_names_its_paper_and_states_itself_and_each_paper_has_claims() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert not set(NAMES) & set(TITLES)
    assert {claim.paper for claim in CLAIMS} == set(TITLES)
    for claim in CLAIMS:
        assert len(claim.statement.split()) > 4
        assert chosen(claim.name) == [claim]
    assert chosen(None) == list(CLAIMS)
    assert {claim.paper for claim in chosen("scan")} == {"scan"}
    with pytest.raises(ValueError, match="neither a paper nor a claim"):
        chosen("scam")
    with pytest.raises(ValueError, match="--seeds: 0 is too small"):
        scale_on("smoke", seeds=0)
    with pytest.raises(ValueError, match="--copies: 1 is too small; give 2 or more"):
        scale_on("smoke", copies=1)
    assert scale_on("smoke", copies=12, draws=100) == replace(SMOKE, copies=12, draws=100)


def test_each_paper_has_a_study_file_that_can_be_read() -> None:
    files = {path.stem: path for path in (ROOT / "studies" / "papers").glob("*.yml")}
    assert set(files) == set(TITLES)
    for path in files.values():
        assert read_study(path)[0].families


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("claim", CLAIMS, ids=NAMES)
def test_every_claim_asks_for_known_dimensions_and_measures(claim: Claim, scale: Any) -> None:
    for variant in claim.variants(scale).values():
        assert variant.measure in measures.MEASURES
        family = variant.candidate.family
        known = {d.name: d for d in (*dimensions(family.config), *dimensions(family.recipe))}
        for name, value in variant.params.items():
            fixed = name in ("gated", "truncated")
            assert fixed or known[name].contains(value) or value == 0, (name, value)


@pytest.mark.parametrize("claim", CLAIMS, ids=NAMES)
def test_every_claim_has_networks_that_can_be_built_at_the_smoke_scale(claim: Claim) -> None:
    for variant in claim.variants(SMOKE).values():
        assert variant.candidate.build(DIGITS, 0).task == DIGITS
        assert json.loads(variant.key)


def tiny(folder: Path, said: list[str] | None = None) -> Lab:
    scale = replace(
        SMOKE, data=DataSpec(source="digits", train_limit=64, validation_limit=40), seeds=2, gates_epochs=1,
        exits_epochs=1, residual_epochs=1, routed_epochs=1, refining_epochs=1, draws=2, passes=2, recalibration=2,
    )  # fmt: skip
    return Lab(scale, folder, (said if said is not None else []).append)


def test_a_claim_gets_seeds_by_the_spread_of_its_pilot_until_it_has_its_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = chosen("literal_gradient")[0]
    noise = [0.005 + 0.01 * (-1) ** seed for seed in range(40)]
    wide, exact = (
        replace(claim, name=name, rule=rule, pair=lambda one: (one["literal"]["gradient"], 0.5))
        for name, rule in (("wide", "above"), ("exact", "zero"))
    )
    lab = tiny(tmp_path)
    lab.scale = replace(lab.scale, seeds=3, power=0.8, most_seeds=40)

    def measured(variant: Variant, seed: int) -> None:
        lab._record(variant, seed, {"gradient": 0.5 + noise[seed]}, 0.0)

    monkeypatch.setattr(lab, "_measured", measured)
    lab.run([wide, exact])
    pairs = lab.pairs(wide)
    assert lab.seeds == {"wide": len(pairs), "exact": 3}
    assert 3 < len(pairs) < 40
    spread = float(np.std(noise[: len(pairs)], ddof=1))
    assert power_of(spread, 0.01, len(pairs)) >= 0.8
    assert (
        f"with a chance of {power_of(spread, 0.01, len(pairs)):.2f}"
        in rows(lab, [wide])[0].measured
    )
    lab.scale = replace(lab.scale, most_seeds=5)
    lab.seeds = {}
    lab.run([wide])
    assert lab.seeds["wide"] == 5


def test_a_layer_that_is_right_about_its_place_is_counted_so(tmp_path: Path) -> None:
    lab = tiny(tmp_path)
    variant = layershuffle.telling(lab.scale)["telling"]
    net = variant.candidate.build(task_of(lab.data), 0)
    for head in net.place_heads:
        head.forward = lambda u: torch.eye(4)[torch.full((len(u),), 1)]  # always: the second place
    bench = measures.Bench([net], lab.data, variant.candidate, lab.execution, variant.options)
    assert measures.places_told(net, bench) == 0.25


@pytest.mark.slow
@pytest.mark.parametrize("paper", TITLES)
def test_a_papers_claims_run_and_are_judged_and_a_second_call_trains_nothing(
    paper: str, tmp_path: Path
) -> None:
    claims = chosen(paper)
    lab = tiny(tmp_path)
    lab.scale = replace(lab.scale, seeds=1)
    lab.run(claims)
    first = [row.as_dict() for row in rows(lab, claims)]
    assert all(row["word"] in (HOLDS, FAILS, UNDECIDED) for row in first)
    assert lab.total == len((tmp_path / "runs.jsonl").read_text().splitlines())
    said: list[str] = []
    again = tiny(tmp_path, said)
    again.scale = lab.scale
    again.run(claims)
    assert again.total == 0
    assert not said
    assert [row.as_dict() for row in rows(again, claims)] == first
    json.dumps(first)
    header, rule, title, *lines = markdown(rows(again, claims), "about").splitlines()[2:]
    assert title == f"| **{TITLES[paper]}** | | |"
    assert [line.count(" | ") for line in (header, rule, *lines)] == [2] * (2 + len(claims))
    for line, row in zip(lines, first, strict=True):
        assert line.startswith(f"| {row['statement']}")
        assert row["word"] in line.rsplit(" | ", 1)[1]


def test_an_interrupted_run_goes_on_from_its_lines_and_a_cut_off_line_is_run_again(
    tmp_path: Path,
) -> None:
    claim = chosen("literal_gradient")
    lab = tiny(tmp_path)
    lab.run(claim)
    assert lab.total == 4
    path = tmp_path / "runs.jsonl"
    path.write_text(path.read_text()[:-30])
    again = tiny(tmp_path)
    assert len(again.known) == 3
    again.run(claim)
    assert again.total == 1
    assert len(tiny(tmp_path).known) == 4
    assert rows(tiny(tmp_path), claim)[0].verdict.word == HOLDS


def test_another_seed_or_data_set_is_another_run_but_another_place_of_the_same_is_not(
    tmp_path: Path,
) -> None:
    variant: Variant = chosen("literal_gradient")[0].variants(SMOKE)["literal"]

    def key(source: str, seed: int = 0) -> str:
        return Lab(scale_on("smoke", source), tmp_path, print).key(variant, seed)

    assert key("parquet:/here/cifar10") == key("parquet:/there/cifar10")
    assert (
        len(
            {
                key("digits"),
                key("parquet:/here/cifar10"),
                key("parquet:/here/cifar100"),
                key("digits", 1),
            }
        )
        == 4
    )


@pytest.mark.slow
def test_the_benchmark_needs_neither_the_search_nor_its_libraries() -> None:
    unwanted = {
        "optuna",
        "mlflow",
        "sqlalchemy",
        "sklearn",
        "moocore",
        "pydantic",
        "yaml",
        "onnx",
        "matplotlib",
    }
    code = f"import sys, benchmarks.claims.command; print(sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_failed_run_leaves_its_seed_out(tmp_path: Path) -> None:
    claim = chosen("literal_gradient")[0]
    lab = tiny(tmp_path)
    lab.run([claim])
    lab.known[lab.key(claim.variants(lab.scale)["literal"], 1)] = {
        "failed": "epoch 1: loss is not finite"
    }
    assert len(lab.results(claim)) == 1


def test_accuracy_at_equal_macs_is_on_the_line_between_the_neighbours_and_unknown_beyond_them() -> (
    None
):
    results = {
        f"layer {i}": {"total": total, "accuracy": accuracy}
        for i, (total, accuracy) in enumerate([(10.0, 0.5), (20.0, 0.7), (40.0, 0.8)])
    }
    results |= {"plain": {"total": 25.0, "accuracy": 0.74}}
    at = layer_and_channel_gates.at_macs
    assert at(results, "layer", 25.0) == pytest.approx(0.725)
    assert at(results, "layer", 20.0) == pytest.approx(0.7)
    assert at(results, "layer", 9.0) is None
    assert at(results, "layer", 41.0) is None
    assert layer_and_channel_gates.layer_plain_pair(results) == pytest.approx((0.725, 0.74))


def test_joint_gates_are_compared_where_both_kinds_have_networks_and_at_half_of_the_macs() -> None:
    def one(total: float, accuracy: float) -> dict[str, float]:
        return {"total": total, "accuracy": accuracy}

    results = {
        "joint 0.15": one(10.0, 0.5),
        "joint 0.1": one(48.0, 0.8),
        "joint 0.03": one(60.0, 0.9),
        "channel 0.15": one(30.0, 0.6),
        "channel 0.03": one(90.0, 0.9),
        "plain": one(100.0, 0.82),
    }
    at_45 = (0.5 + 0.3 * 35 / 38, 0.6 + 0.3 * 15 / 60)  # both have networks from 30 to 60
    assert layer_and_channel_gates.joint_channel_pair(results) == pytest.approx(at_45)
    assert layer_and_channel_gates.half_pair(results) == (0.8, 0.82)
    small = results | {"plain": one(19.0, 0.7), "channel 0.15": one(70.0, 0.6)}
    assert layer_and_channel_gates.joint_channel_pair(small) is None
    assert layer_and_channel_gates.half_pair(small) is None


def test_pruning_says_nothing_where_no_gate_was_settled() -> None:
    def one(settled: float) -> dict[str, Any]:
        return {"threshold": 0.8, "pruned_0.1": {"accuracy": 0.79, "settled": settled}}

    assert probabilistic_gates.pruning_pair({"a": one(0.0)}) is None
    assert probabilistic_gates.pruning_pair({"a": one(0.0), "b": one(0.5)}) == pytest.approx(
        (0.79, 0.8)
    )


def test_a_cascade_pays_what_its_thresholds_cost_on_images_they_were_not_chosen_on() -> None:
    # one exit at half the cost, right wherever it is sure; the deepest head is right everywhere
    sure = np.tile([True, True, False, False], 10)
    confidence = np.where(sure, 0.9, 0.2)[None]
    right = np.stack([sure, np.ones_like(sure)])
    macs = np.stack([np.full(40, 0.5), np.full(40, 1.1)])
    points = dict(measures.cascade(confidence, right, np.ones(40, bool), macs))
    assert points[0.8] == 1.0  # half of the images leave: 0.5 * 0.5 + 0.5 * 1.1
    assert points[0.5] == 0.5  # everybody leaves
    assert min(points) == 0.5
    results = {"scan": {"cascade": list(points.items())}, "plain": {"accuracy": 0.95}}
    assert scan.cascade_pair(results) == (1.0, 0.8)
    assert scan.cascade_pair(results | {"plain": {"accuracy": 1.01}}) == (1.0, 2.0)


def test_thresholds_are_measured_on_the_other_half_of_the_images() -> None:
    # the exit is right on even images, the deepest head on all; both are equally sure
    even = np.arange(40) % 2 == 0
    right, macs = (
        np.stack([even, np.ones_like(even)]),
        np.stack([np.full(40, 0.5), np.full(40, 1.1)]),
    )
    points = measures.cascade(np.full((1, 40), 0.9), right, np.ones(40, bool), macs)
    assert points[-1] == (
        pytest.approx(0.8),
        0.5,
    )  # even images send odd ones out, odd ones keep even ones in
