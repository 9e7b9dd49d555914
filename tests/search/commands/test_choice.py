"""Which point is meant: the same for `export` and `inspect`."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from search.commands.choice import Choice, cheaper_text, chosen
from search.commands.inspect import chosen_point
from search.front.stored import study_front
from search.spec import parse_study
from storage.records import Kind, StudyRecord
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point
from tests.search.conftest import dynafront

TEXT = (
    "study: s\ndata: digits\nfamilies: [gated_resnet, multi_exit]\nbudget: {trials: 6, epochs: 9}\n"
)
RANDOM = {"policy": "stochastic", "passes": 1}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Trials 0 and 1 on the front, 2 off it; one point of 2 depends on random draws."""
    monkeypatch.chdir(tmp_path)
    made = Store.open(Settings().database_url)
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    made.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7})
    points = [
        [operating_point(0.7, 1e6)],
        [operating_point(0.9, 2e6)],
        [operating_point(0.6, 3e6), operating_point(0.65, 3e6, knobs=RANDOM, chosen=False)],
    ]
    for number, own in enumerate(points):
        family = "multi_exit" if number == 2 else "gated_resnet"
        made.add_trial("s", Kind.SEARCH, number, family, {}, 0, 9)
        made.finish_trial("s", Kind.SEARCH, number, points=own, result={}, seconds=1.0)
    return made


@pytest.fixture
def record(store: Store) -> StudyRecord:
    return store.study("s")


def ids(store: Store) -> list[int | None]:
    return [p.id for p in store.points("s")]


def test_ids_stand_wherever_points_are_shown(store: Store) -> None:
    wanted = ids(store)[:2]
    found = json.loads(dynafront("front", "s", "--format", "json").output)
    assert [one["point"] for one in found["points"]] == wanted
    rows = list(csv.DictReader(io.StringIO(dynafront("front", "s", "--format", "csv").output)))
    assert [row["point"] for row in rows] == [str(one) for one in wanted]
    lines = dynafront("front", "s").output.splitlines()
    header = next(line for line in lines if "trial" in line and "accuracy" in line)
    assert header.split()[:2] == ["point", "trial"]
    assert dynafront("front", "s", "--plot", "page.html").exit_code == 0
    page = Path("page.html").read_text()
    assert f',{wanted[0]},"front"]' in page
    assert f',{ids(store)[2]},"cloud"]' in page


def test_a_point_is_chosen_by_its_id_on_the_front_or_not(store: Store, record: StudyRecord) -> None:
    for wanted in ids(store)[:3]:
        assert chosen(store, record, Choice(point=wanted)).id == wanted
        assert chosen_point(store, record, choice=Choice(point=wanted)).id == wanted


def test_a_much_cheaper_point_that_is_as_good_as_the_best_is_told(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'other.sqlite'}")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    store.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7})
    own = [operating_point(0.895, 1e6), operating_point(0.9, 4e6, chosen=False)]
    store.add_trial("s", Kind.SEARCH, 0, "gated_resnet", {}, 0, 9)
    store.finish_trial("s", Kind.SEARCH, 0, points=own, result={}, seconds=1.0)
    record, (cheap, best) = store.study("s"), store.points("s")
    front = study_front(store, record)
    within = Choice(max_macs="5M")
    assert chosen(store, record, within).id == best.id
    text = cheaper_text(best, within, front, record)
    assert text is not None
    assert text.startswith(f"point {cheap.id} is as good, as far as validation can tell, at 25% of")
    assert "89.50% at 1.00 M MACs; --pick efficient beside the limits exports it" in text
    assert chosen(store, record, replace(within, pick="efficient")).id == cheap.id
    assert cheaper_text(cheap, Choice(max_macs="2M"), front, record) is None
    assert cheaper_text(best, Choice(point=best.id), front, record) is None
    assert cheaper_text(cheap, Choice(), front, record) is None


def test_points_that_cannot_be_shipped_are_refused(store: Store, record: StudyRecord) -> None:
    with pytest.raises(ValueError, match=r"--point 4: cannot be shipped: .* random draws"):
        chosen(store, record, Choice(point=ids(store)[3]))
    with pytest.raises(ValueError, match=r"--point 99: is not one of study s; dynafront front s"):
        chosen(store, record, Choice(point=99))


@pytest.mark.parametrize(
    ("choice", "trial"),
    [
        (Choice(), 1),
        (Choice(pick="fastest"), 0),
        (Choice(max_macs="1.5M"), 0),
        (Choice(min_accuracy=0.6), 0),
        (Choice(min_accuracy=0.8), 1),
        (Choice(family="multi_exit"), 2),
    ],
)
def test_inspect_chooses_as_export_does(
    store: Store, record: StudyRecord, choice: Choice, trial: int
) -> None:
    assert chosen(store, record, choice).trial == trial
    assert chosen_point(store, record, choice=choice).trial == trial


@pytest.mark.parametrize("command", ["export", "inspect"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--point", "1", "--pick", "best"), "names one point already"),
        (("--point", "99"), "is not one of study s"),
        (("--min-accuracy", "95"), "give a share between 0 and 1"),
        (("--min-accuracy", "0.99"), "the best has"),
        (("--max-macs", "1k"), "the cheapest has"),
        (("--family", "timm"), "study s searches gated_resnet, multi_exit"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(
    store: Store, command: str, flags: tuple[str, ...], message: str
) -> None:
    result = dynafront(command, "s", *flags)
    assert result.exit_code == 2, result.output
    assert message in result.output.splitlines()[-1]


@pytest.mark.slow
def test_export_and_inspect_take_an_id(in_finished: Path, tmp_path: Path) -> None:
    points = json.loads(dynafront("front", "tiny", "--format", "json").output)["points"]
    wanted = points[0]
    result = dynafront("export", "tiny", "--point", str(wanted["point"]), "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert f"point {wanted['point']} of " in result.output
    report = json.loads((tmp_path / "m" / "model.json").read_text())["report"]
    assert report["validation"]["accuracy"] == wanted["accuracy"]
    assert report["validation"]["macs_mean"] == wanted["macs_mean"]
    flags = ("--max-macs", str(wanted["macs_mean"]), "--out", str(tmp_path / "seen"))
    result = dynafront("inspect", "tiny", *flags)
    assert result.exit_code == 0, result.output
    assert f"point {wanted['point']}, " in result.output


@pytest.mark.parametrize(
    ("given", "alias"),
    [
        (Choice(max_macs="20.0 M"), "best-max-20m-macs"),
        (Choice(max_macs="1.5e+6"), "best-max-1500k-macs"),
        (Choice(max_latency_ms="5000000 ms"), "best-max-5000000-ms"),
        (Choice(max_latency_ms="3.5"), "best-max-3_5-ms"),
    ],
)
def test_an_alias_is_one_that_mlflow_takes(given: Choice, alias: str) -> None:
    from mlflow.utils.validation import _validate_model_alias_name

    assert given.alias == alias
    _validate_model_alias_name(alias)
