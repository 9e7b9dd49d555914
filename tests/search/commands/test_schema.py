from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from search.commands.schema import study_schema
from search.key_types import AMOUNT_TEXT
from search.objectives import macs_number
from search.spec import parse_study
from storage.yaml_text import parsed
from tests.search.conftest import dynafront

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "studies").rglob("*.yml"))
STUDY = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"
WRONG = [
    "trails: 3",
    "budget: {trials: many}",
    "budget: {trials: 0}",
    "budget: {plateau: {growth: 2}}",
    "region: {max_macs: 20X}",
    "run: {device: tpu}",
    "objectives: [macs, accuracy]",
    "objectives: [accuracy, speed]",
    "objectives: [accuracy, macro_f1]",
    "validation: 1",
    "warm_start: 1",
    "space: {gated_resnt: {}}",
    "space: {gated_resnet: {traget: 0.5}}",
    "space: {gated_resnet: {target: 7}}",
    "space: {gated_resnet: {target: []}}",
    "space: {gated_resnet: {target: {lowest: 0.3}}}",
    "space: {gated_resnet: {width: [0.5, 0.55]}}",
    "space: {gated_resnet: {granularity: layers}}",
]
RIGHT = [
    "budget: {hours: 2, warm_epochs: 3, plateau: {}}",
    "region: {max_macs: 1.5G}",
    "region: {max_macs: 20000000}",
    "limits: {parameters: 2m}",
    "space: {gated_resnet: {target: {low: 0.3}, batch: [32, 65], lr: 0.001}}",
    "init_from: {gated_resnet: weights.pt}",
    "objectives: [accuracy, macs_p95, parameters]",
    "objectives: [accuracy]",
    "objectives: [balanced_accuracy, macs]",
    "objectives: [top5_accuracy]",
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = study_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_studies_that_come_along_fit_the_schema_that_they_name(
    file: Path, validator: Draft202012Validator
) -> None:
    text = file.read_text(encoding="utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(.+)\n", text)
    assert named
    assert (file.parent / named[1]).resolve() == ROOT / "studies/schema.json"
    validator.validate(yaml.safe_load(text))


@pytest.mark.parametrize("line", WRONG)
def test_what_a_search_refuses_does_not_fit_the_schema(
    line: str, validator: Draft202012Validator
) -> None:
    with pytest.raises(ValueError, match=r"wrong\.yml"):
        parse_study(f"{STUDY}{line}\n", "wrong.yml")
    assert not validator.is_valid(parsed(f"{STUDY}{line}\n"))


@pytest.mark.parametrize("line", RIGHT)
def test_what_a_search_takes_fits_the_schema(line: str, validator: Draft202012Validator) -> None:
    parse_study(f"{STUDY}{line}\n", "right.yml")
    validator.validate(parsed(f"{STUDY}{line}\n"))


@pytest.mark.parametrize("missing", ["study", "data", "families"])
def test_a_file_without_what_is_required_does_not_fit(
    missing: str, validator: Draft202012Validator
) -> None:
    values = {key: value for key, value in yaml.safe_load(STUDY).items() if key != missing}
    assert not validator.is_valid(values)


@pytest.mark.parametrize("text", ["10M", "500k", "1.5G", "2e3", "20 MACs", "10X", "M", "ten", "-3"])
def test_amounts_fit_exactly_where_they_can_be_read(text: str) -> None:
    try:
        macs_number(text)
        readable = True
    except ValueError:
        readable = False
    assert bool(re.match(AMOUNT_TEXT, text)) == readable


def test_the_committed_schema_is_the_printed_one() -> None:
    printed = dynafront("schema").output
    committed = (ROOT / "studies/schema.json").read_text(encoding="utf-8")
    assert committed == printed, "dynafront schema --out studies/schema.json writes it anew"


def test_the_schema_is_written_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "schema.json"
    assert dynafront("schema", "--out", file).exit_code == 0
    assert json.loads(file.read_text()) == study_schema()


def _undescribed(schema: dict[str, Any], node: dict[str, Any], where: str = "") -> list[str]:
    """The properties in a schema that say nothing of what they mean."""
    found = []
    for key, value in node.get("properties", {}).items():
        own = schema["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value
        if not (value.get("description") or own.get("description")):
            found.append(f"{where}{key}")
        found += _undescribed(schema, own, f"{where}{key}.")
    return found


def test_every_key_and_every_dimension_says_what_it_means() -> None:
    schema = study_schema()
    assert _undescribed(schema, schema) == []
    assert schema["$defs"]["target"]["description"]
