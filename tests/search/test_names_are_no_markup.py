"""What a library, a file or a user wrote is shown as it is, in every output: it is never read as markup."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from search.command_line.terminal import terminal
from search.export.card import card
from search.front.formats import as_csv
from search.front.pareto import front
from search.inspection.page import inspection_html
from search.inspection.pngs import inspection_pngs
from search.report.front_note import note
from search.run.data import load_data
from search.run.job import Failure, Job
from search.run.progress import Progress
from tests.search.inspection.nets import found_of
from tests.search.report.fronts import embedded, page, point
from trainers.data.splits import DataSpec, ImageData

NASTY = (
    "[/train]",
    "[link=file:///etc]here[/link]",
    "[bold red]x",
    ":warning:",
    "</script><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "a|b",
    "**x** `y` ![z](http://evil)",
    r"$\frac$ 100 $",
    "'\"&amp;",
)


class Tags(HTMLParser):
    """The tags of a page and their attributes by name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


def job() -> Job:
    return Job(
        kind="search",
        number=3,
        family="gated_resnet",
        params={"backbone": "resnet8", "width": 0.25},
        epochs=3,
        seed=0,
        data=DataSpec(source="digits"),
        checkpoints="none",
        key="k",
    )


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_said_while_a_study_runs_is_shown_as_it_is(text: str, terminal: bool) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, color_system=None, width=200)
    progress = Progress(console, "s", 4, 1)
    progress.say(text)
    progress.trial_failed(job(), Failure(f"ValueError: {text}", 1, ""))
    assert [line.rstrip() for line in written.getvalue().splitlines()] == [
        text,
        f"trial   3 failed: ValueError: {text}",
    ]


@pytest.mark.parametrize("text", NASTY)
def test_what_commands_print_is_shown_as_it_is(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal().print(f"study on folder:/{text}")
    assert capsys.readouterr().out.rstrip("\n") == f"study on folder:/{text}"


@pytest.mark.parametrize("text", NASTY)
def test_no_name_becomes_a_tag_of_a_front_page(text: str) -> None:
    members = [point(0.9, 2e6, 1, params={"model": text}, knobs={"tau": text}, family=text)]
    html = page(members)
    assert Tags(html).found == Tags(page([point(0.9, 2e6, 1)])).found
    config = embedded(html)["configs"][0]
    assert (config["family"], config["params"]["model"]) == (text, text)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data(DataSpec(source="digits", train_limit=64))


@pytest.fixture(scope="module")
def inspection(data: ImageData) -> Any:
    classes = tuple(NASTY[:10])
    return found_of("joint", replace(data, classes=classes))


def test_no_class_becomes_a_tag_of_a_page_of_pictures(inspection: Any, data: ImageData) -> None:
    ordinary = Tags(inspection_html(found_of("joint", data), "title")).found
    assert Tags(inspection_html(inspection, NASTY[4])).found == ordinary


def test_no_class_is_a_formula_in_a_picture(inspection: Any) -> None:
    assert all(png.startswith(b"\x89PNG") for png in inspection_pngs(inspection, NASTY[9]).values())


@pytest.mark.parametrize("text", NASTY)
def test_a_table_for_spreadsheets_has_no_formula_and_keeps_numbers(text: str) -> None:
    one = point(0.9, 2e6, 1, params={"model": text, "shift": -0.5}, knobs={}, family=text)
    (row,) = csv.DictReader(io.StringIO(as_csv([one])))
    for cell in (row["family"], row["param.model"]):
        assert cell in (text, f"'{text}")
        assert cell[0] not in "=+-@"
    assert row["param.shift"] == "-0.5"


LINK = re.compile(r"(?<!\\)\[[^\]]*(?<!\\)\]\(")


@pytest.mark.parametrize("text", NASTY)
def test_a_name_in_a_note_is_neither_link_nor_tag_nor_cell(text: str) -> None:
    odd = point(0.9, 1e6, 0, family=text, knobs={"tau": text})
    written = note("s", [odd], front([odd]), run_id="r", links={})
    (row,) = [line for line in written.splitlines() if line.startswith("|  | 0 |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 10
    assert not LINK.search(row)
    assert not re.search(r"(?<!\\)[`*]", row)
    assert "<" not in row


def test_a_name_in_the_card_of_a_model_is_neither_link_nor_tag() -> None:
    measured = {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 1.0, "images": 10}
    measured |= {"macs_mean": 5.0, "macs_p95": 6.0, "macs_max": 7.0}
    spread = {"median": 1.0, "low": 0.9, "high": 1.1}
    runtimes = {"torch": {"exported": spread, "static": spread, "ratio": 1.0}}
    static = {"name": NASTY[4], "why": NASTY[4], "trained": False, "standing": None}
    description = {
        "study": "s",
        "kind": "search",
        "trial": 0,
        "classes": list(NASTY),
        "family": "gated_resnet",
        "task": {"channels": 1, "height": 8, "width": 8},
        "network": {"deployed": "generic"},
        "preprocessing": {"resize": "crop", "bits": 16, "background": "white"},
        "knobs": {"tau": NASTY[4]},
        "params": {"model": NASTY[4]},
        "epochs": {"planned": 1, "trained": 1},
        "report": {
            "test": measured,
            "validation": measured,
            "selection_bias": {"difference": 0.0, "low": 0.0, "high": 0.0, "exit_thresholds": None},
            "latency_ms": {
                "batch_1": runtimes,
                "batch_64": runtimes,
                "device": "CPU",
                "threads": 1,
                "versions": {"torch": "2.9"},
            },
            "static": {**measured, **static, "parameters": 10},
            "dynamic": False,
            "parity": {
                "images": 10,
                "same_answers": 10,
                "largest_logit_difference": 0.0,
                "same_answers_before_removing_gates": 10,
            },
            "plain_macs": 10,
            "parameters": 10,
            "parameters_trained": 10,
            "gates": {"dynamic": 0, "removed_open": 0, "removed_closed": 0},
        },
    }
    text = card(description)
    assert "<" not in text
    assert not LINK.search(text)
    assert r"\[/train\]" in text
