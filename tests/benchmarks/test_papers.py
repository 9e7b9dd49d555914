"""Tables of papers beside ours: which training is which row, and what is said of it."""

from __future__ import annotations

import pytest
import yaml

from benchmarks.cascades import Measured
from benchmarks.paper_tables.dynamic_transformers import TABLE_1 as DT_1
from benchmarks.paper_tables.every import TABLES
from benchmarks.paper_tables.layer_and_channel_gates import TABLE_1 as DLCG_1
from benchmarks.paper_tables.table import SCALES, PaperTable, Row
from benchmarks.papers import Ours, printed
from search.spec import exact_settings, parse_study


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_each_row_is_a_setting_of_its_own_or_a_baseline_of_the_study(
    table: PaperTable, scale: str
) -> None:
    spec = parse_study(table.text(scale), table.name)
    settings = exact_settings(spec)
    placed = [row.setting for row in table.rows if row.setting is not None]
    assert sorted(placed) == list(range(len(settings)))
    for row in table.rows:
        if row.setting is None:
            wanted = table.baseline_of(row, scale)
            assert any(wanted.items() <= values.items() for _, values in settings)


def test_the_rows_of_the_gates_table_are_the_loss_factors_that_their_labels_say() -> None:
    settings = exact_settings(parse_study(DLCG_1.text("gpu"), "s"))
    for row in DLCG_1.rows:
        values = settings[row.setting or 0][1]
        label = f"layer {values['lambda_layer']:.2f}, channel {values['gamma_channel']:.2f}"
        assert label == row.label


def test_the_rows_of_the_transformers_table_are_the_networks_that_their_labels_say() -> None:
    settings = exact_settings(parse_study(DT_1.text("gpu"), "s"))
    for row in (one for one in DT_1.rows if one.setting is not None):
        family, values = settings[row.setting or 0]
        name = "DT" if family == "skip_vit" else str(values["aggregator"]).upper()
        assert row.label == f"{name}, {values['layers']} layers"


def test_the_exact_study_is_as_published() -> None:
    for table in TABLES.values():
        keys = yaml.safe_load(table.text("gpu"))
        assert [keys[one] for one in ("warm_start", "early_stopping", "cascades")] == [False] * 3
        assert keys["repeats"] >= 3
        assert "train_limit" not in keys


def ours(*accuracies: float, published: float = 0.9) -> Ours:
    return Ours(Row("one", published, 2e6, 0), [Measured(a, 1e6) for a in accuracies])


def test_a_verdict_needs_the_published_recipe_and_repeats() -> None:
    # Student's t with 2 degrees of freedom: 4.303 standard errors of 0.00577
    assert ours(0.89, 0.90, 0.91).half_width == pytest.approx(0.02484, abs=1e-4)
    assert ours(0.89, 0.90, 0.91).verdict("gpu") == "as published"
    assert ours(0.94, 0.95, 0.96).verdict("gpu") == "above"
    assert ours(0.84, 0.85, 0.86).verdict("gpu") == "below"
    assert ours(0.9).verdict("gpu") == "one repeat has no interval"
    assert ours(0.89, 0.90, 0.91).verdict("cpu") == "not at cpu scale"


def test_the_table_has_a_line_for_each_row_and_says_which_failed_and_what_differs() -> None:
    text = printed(DLCG_1, [ours(0.89, 0.91), ours(), ours(0.5)], "gpu")
    assert "| one | 90.00% | 90.00% +- 12.71 | 2 | 2.00 M | 1.00 M | as published |" in text
    assert "| one | 90.00% | failed | 0 | 2.00 M | | |" in text
    assert "Differs from the paper: norms and biases are not decayed." in text
