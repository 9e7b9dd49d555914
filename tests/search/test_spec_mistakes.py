"""Study files that fuzzing made: each wrong one gets one line, soon, and nothing that is wrong is taken silently."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from search.inputs import check_inputs
from search.objectives import macs_number
from search.spec import parse_study, read_study
from spaces.contract.registry import families

GOOD = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Families are imported once, so that the time of a check is its own."""
    families()


def refused(text: str) -> str:
    """The line that a study file gets, which comes in under a second of processor time."""
    began = time.process_time()
    with pytest.raises(ValueError, match=r"^s\.yml: ") as caught:
        parse_study(text, "s.yml")
    assert time.process_time() - began < 1
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1_500
    return line


def replaced(line: str) -> str:
    """A good study file with this line in place of that of the same key."""
    key = line.partition(":")[0]
    return "".join(f"{one}\n" for one in GOOD.splitlines() if not one.startswith(key)) + line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("study: 2024", "study: 2024 is a number, not text; put it in quotes: '2024'"),
        ("study: 1e3", "study: 1000.0 is a number, not text; put it in quotes"),
        ("study: true", "study: true is a truth value, not text; put it in quotes: 'true'"),
        ("study: null", "study: null: input should be a valid string"),
        ('study: "a\\0"', "study: holds the character '\\x00', which is not printed (line 3)"),
        ('study: "a\\ud800"', "study: holds the character '\\ud800', which is not printed (line 3)"),
        ("data: nosuch", "data: 'nosuch' is not a data set; give one of digits, cifar10"),
        ("data: 'folder:'", "data: 'folder:' is not a data set; give one of digits, cifar10"),
        ("data: 'parquet:'", "data: 'parquet:' is not a data set"),
        ('data: "folder:a\\x1b"', "data: holds the character '\\x1b', which is not printed"),
        ("data: 7", "data: 7 is a number, not text; put it in quotes: '7'"),
        ("families: gated_resnet", "input should be a list, such as [gated_resnet]"),
        ("families: [gated_resnet, gated_resnet]", "families: gated_resnet stands there twice"),
        ("families: []", "families: []: input should have an entry at least"),
        ("families: [2024]", "families.0: 2024 is a number, not text"),
        ("families: {gated_resnet: 1}", "input should be a list"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_told_what_it_is(line: str, said: str) -> None:
    assert said in refused(replaced(line))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("budget: {hours: true}", "budget.hours: true: input should be a valid number"),
        ("budget: {hours: '2'}", "budget.hours: '2': input should be a valid number"),
        ("budget: {hours: .inf}", "budget.hours: .inf is not a finite number (line 4)"),
        ("budget: {hours: .nan}", "budget.hours: .nan is not a finite number (line 4)"),
        ("budget: {hours: 0}", "budget.hours: 0: input should be greater than 0"),
        ("budget: {trials: 1:30}", "budget.trials: '1:30': input should be a valid integer"),
        ("budget: {trials: 2024-99-99}", "budget.trials: '2024-99-99': input should be a valid integer"),
        ("budget: {trials: true}", "budget.trials: true: input should be a valid integer"),
        ("budget: 3", "budget: 3: input should be a mapping of keys to values"),
        ("limits: {megabytes: true}", "limits.megabytes: true: input should be a valid number"),
        ("limits: {megabytes: '2'}", "limits.megabytes: '2': input should be a valid number"),
        ("limits: {macs: 1e999}", "limits.macs: 1e999 is too large for a number (line 4)"),
        ("limits: {macs: 1e99G}", "limits.macs: '1e99G' is more than any network has; write it like 500k"),
        ("limits: {macs: 1e99}", "limits.macs: '1e+99' is more than any network has"),
        ("limits: {macs: '1e999'}", "limits.macs: '1e999' is more than any network has"),
        ("limits: {parameters: 0.1}", "limits.parameters: '0.1' is less than one MAC"),
        ("validation: .nan", "validation: .nan is not a finite number"),
        ("region: {within: .nan}", "region.within: .nan is not a finite number"),
        ("seed: 1\nseed: 2", "seed: stands in line 4 and again in line 5; keep one of them"),
        ("budget: {trials: 1, trials: 1}", "budget.trials: stands in line 4 and again in line 4"),
        ("warm_start: no", "warm_start: 'no': input should be a valid boolean; write true or false"),
        ("init_from: 3", "init_from: 3 is neither a file, nor torchvision:NAME or timm:NAME, nor one of these by"),
        ("init_from: ''", "init_from: '' is neither a file"),
        ("init_from: {gated_resnet: [a]}", "is neither a file"),
        ("image_size: true", "image_size: true: input should be a valid integer"),
        ("data_root: 5", "data_root: 5 is a number, not text"),
        ("space: [1]", "space: [1]: input should be a mapping"),
        ("space: {gated_resnet: {target: .nan}}", "space.gated_resnet.target: .nan is not a finite number"),
        ("space: {gated_resnet: {target: [0.5, 0.5]}}", "target: 0.5 stands there twice"),
        ("seed: !!int ''", "is not valid YAML: the tag !!int is not allowed; write the value alone (line 4)"),
    ],
)  # fmt: skip
def test_what_is_no_number_or_no_flag_is_refused(line: str, said: str) -> None:
    assert said in refused(GOOD + line)


LARGE = {
    "digits": "seed: " + "9" * 5_000,
    "a number in quotes": f"limits: {{macs: '{'9' * 900}'}}",
    "a number that is none": f"region: {{max_macs: '{'9' * 900}x'}}",
    "values": f"space: {{gated_resnet: {{target: [{', '.join(f'{0.1 + i / 30_000}' for i in range(20_000))}]}}}}",
    "families": f"x: [{'gated_resnet, ' * 70_000}]",
    "lists": "space: " + "[" * 500 + "]" * 500,
    "mappings": "space: " + "{a: " * 500 + "}" * 500,
    "a key": "? " + "x" * 900 + "\n: 1",
    "a family": "space: {? " + "x" * 900 + " : 1}",
    "a value": f"space: {{gated_resnet: {{gate: {'x' * 900}}}}}",
    "a sampler": "sampler: " + "x" * 900,
    "a list for a number": f"seed: [{'1, ' * 9_000}]",
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "laughs in a known key": "init_from: &a {a: [x, x]}\nspace: {gated_resnet: {target: ["
    + "*a, " * 3_000
    + "]}}",
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large_is_refused_soon_and_in_a_short_line(name: str) -> None:
    refused(GOOD + LARGE[name])


def test_as_many_values_as_a_file_may_hold_are_compared_soon() -> None:
    values = ", ".join(f"{0.1 + i / 30_000}" for i in range(9_000))
    began = time.process_time()
    parse_study(f"{GOOD}space: {{gated_resnet: {{target: [{values}]}}}}", "s.yml")
    assert time.process_time() - began < 2


def test_a_file_that_never_ends_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^/dev/zero: is not valid YAML: holds more than 1,000,000"
    ):
        read_study(Path("/dev/zero"))


def test_words_that_older_yaml_takes_for_truth_values_are_names() -> None:
    assert parse_study(replaced("study: no"), "s.yml").study == "no"
    assert parse_study(replaced("study: '2024'"), "s.yml").study == "2024"
    assert parse_study(f"{GOOD}validation: 1e-1", "s.yml").validation == 0.1


@pytest.mark.parametrize("text", ["1e19", 1e300, "1e99G", "9" * 39])
def test_no_network_has_more_macs_than_that(text: str | float) -> None:
    with pytest.raises(ValueError, match="is more than any network has; write it like 500k"):
        macs_number(text)


def test_a_path_may_begin_at_home_or_with_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IMAGES", str(tmp_path / "images"))
    (tmp_path / "images").mkdir()
    (tmp_path / "weights.pt").touch()
    for folder in ("~/images", "$HOME/images", "${IMAGES}"):
        text = (
            replaced(f"data: folder:{folder}") + f"\ninit_from: ~/weights.pt\ndata_root: {folder}"
        )
        check_inputs(parse_study(text, "s.yml"), "s.yml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data: folder:nowhere", "data: folder:nowhere: .*/nowhere does not exist: give the folder of"),
        ("data: folder:$NOSUCH/x", r"data: folder:\$NOSUCH/x: .* does not exist"),
        ("data: folder:/dev/null", "data: folder:/dev/null: .* is a file, not a folder"),
        ("data_root: /dev/null", "data_root: /dev/null is not a folder"),
        ("init_from: /dev/zero", "init_from: /dev/zero is not a file"),
        ("init_from: nowhere.pt", "init_from: nowhere.pt is not a file"),
        ("init_from: {gated_resnet: .}", "init_from: . is not a file"),
        ("init_from: 'torchvision:'", "init_from: torchvision: names no model; write torchvision:NAME"),
    ],
)  # fmt: skip
def test_what_is_not_on_this_machine_is_named(line: str, said: str) -> None:
    spec = parse_study(replaced(line), "s.yml")
    with pytest.raises(ValueError, match=f"^s.yml: {said}"):
        check_inputs(spec, "s.yml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_weights_that_may_not_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch(mode=0o000)
    spec = parse_study(GOOD + f"init_from: {tmp_path / 'w.pt'}", "s.yml")
    with pytest.raises(ValueError, match="is not a file that this user may read"):
        check_inputs(spec, "s.yml")
