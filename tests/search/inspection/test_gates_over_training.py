"""The page's section on gates over the training."""

from __future__ import annotations

import re

from search.inspection.gates_over_training import gates_over_training
from search.inspection.measures import Inspection
from search.inspection.page import inspection_html

EPOCHS = [(0, {"block<0>": 0.25}), (1, {"block<0>": 0.5, "late": 1.0})]
BARE = Inspection(images=10, accuracy=0.5, macs_mean=50.0, plain_macs=100)


def test_gates_have_a_row_each_and_a_cell_an_epoch() -> None:
    content = gates_over_training(EPOCHS).content
    rows = re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", content)
    rates = [(name, re.findall(r'data-v="([\d.]+)"', row)) for name, row in rows]
    assert rates[1:] == [("block&lt;0&gt;", ["0.2500", "0.5000"]), ("late", ["0.0000", "1.0000"])]
    assert "late after epoch 0: open for 0.0 %" in content, "a gate that there was not yet"


def test_the_page_has_the_section_only_for_networks_with_gates() -> None:
    page = inspection_html(BARE, "t", EPOCHS)
    assert '<a href="#gate_rates">gates over the training</a>' in page
    assert gates_over_training(EPOCHS).html() in page
    assert "Nothing in this network depends on the image." in inspection_html(BARE, "t")
    assert "Nothing in this network depends on the image." in inspection_html(
        BARE, "t", [(0, {}), (1, {})]
    )
