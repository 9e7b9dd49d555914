"""Study files: every mistake is one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.commands.begun import as_begun
from search.commands.search import _recorded
from search.commands.search_text import opening_line
from search.objectives import MACS, Reference
from search.spec import BEFORE, narrowed_spaces, parse_study, read_study, stored_spec
from search.study_parts import Region
from storage.store import Store

GOOD = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"
REFERENCE = Reference(accuracy=0.1, macs=1e7)


def test_three_keys_are_enough() -> None:
    spec = parse_study(GOOD, "s.yml")
    assert (spec.budget.trials, spec.sampler, spec.objectives, spec.seed) == (
        24,
        "growth",
        ("accuracy", "macs"),
        0,
    )
    assert spec.cost is MACS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "s.yml: must be a mapping with study, data and families"),
        ("study: [", "s.yml: is not valid YAML: .*line 1"),
        ("study: s\ndata: digits\n", "s.yml: families: is missing"),
        (
            GOOD.replace("study: s", "study: ../up"),
            r"s.yml: study: '../up' may only have letters, digits",
        ),
        (
            GOOD + "sampler: evolution\n",
            "s.yml: sampler: evolution is not one of 'growth', 'tpe', 'nsgaii', 'gp', 'random' or 'grid'",
        ),
        (GOOD + "seeds: 1\n", r"s.yml: seeds: no such key; did you mean seed\?"),
        (
            GOOD + "budget: {trails: 3}\n",
            r"s.yml: budget.trails: no such key; did you mean trials\?",
        ),
        (
            GOOD + "budget: {trials: 0}\n",
            "s.yml: budget.trials: 0: input should be greater than or equal to 1",
        ),
        (
            GOOD + "budget: {trials: '9'}\n",
            "s.yml: budget.trials: '9': input should be a valid integer",
        ),
        (
            GOOD + "objectives: [accuracy, latency]\n",
            "s.yml: objectives: latency needs a table of times: write `latency: latency.json`, and let "
            "`dynafront profile s.yml` make that file",
        ),
        (
            GOOD + "objectives: [macs, accuracy]\n",
            r"objectives: \[macs, accuracy\] is not one of accuracy, .* followed by",
        ),
        (
            GOOD + "objectives: []\n",
            r"objectives: \[\] is not one of accuracy, .* alone or followed by costs",
        ),
        (
            GOOD + "objectives: [accuracy, macs, macs_p95]\n",
            r"objectives: .* is not one of .* alone or followed by costs",
        ),
        (
            GOOD + "region: {max_mac: 1M}\n",
            r"s.yml: region.max_mac: no such key; did you mean max_macs\?",
        ),
        (
            GOOD + "region: {max_macs: many}\n",
            "s.yml: region.max_macs: .*write it like 500k, 10M or 1.5G",
        ),
        (
            GOOD + "region: {max_macs: true}\n",
            "s.yml: region.max_macs: True is not a number; write it like 500k",
        ),
        (
            GOOD + "region: {min_accuracy: 95}\n",
            "s.yml: region.min_accuracy: 95: input should be less than 1",
        ),
        (
            GOOD + "region: {within: 0.0}\n",
            "s.yml: region.within: 0.0: input should be greater than 0",
        ),
        (
            GOOD + "objectives: [accuracy, parameters]\nregion: {max_macs: 1M}\n",
            "s.yml: region.max_macs: needs macs among the objectives",
        ),
        (GOOD + "limits: {mac: 1M}\n", r"s.yml: limits.mac: no such key; did you mean macs\?"),
        (
            GOOD + "limits: {megabytes: 0}\n",
            "s.yml: limits.megabytes: 0: input should be greater than 0",
        ),
        (GOOD + "warm_start: 1\n", "s.yml: warm_start: 1: input should be a valid boolean"),
        (
            GOOD + "early_stopping: maybe\n",
            "s.yml: early_stopping: 'maybe': input should be a valid boolean",
        ),
        (
            GOOD + "starting_points: [1]\n",
            r"s.yml: starting_points: \[1\]: input should be a valid boolean",
        ),
        (
            GOOD + "budget: {plateau: {trials: 0}}\n",
            "s.yml: budget.plateau.trials: 0: input should be greater than or",
        ),
        (
            GOOD + "budget: {plateau: {growht: 0.1}}\n",
            r"s.yml: budget.plateau.growht: no such key; did you mean growth\?",
        ),
        (
            GOOD.replace("gated_resnet", "gated_resnt"),
            r"s.yml: families: gated_resnt is not a family; did you mean",
        ),
        (
            GOOD + "space: {multi_exit: {}}\n",
            "s.yml: space.multi_exit: is not among the study's families",
        ),
        (
            GOOD + "space: {gated_resnet: {targt: 0.5}}\n",
            r"space.gated_resnet.targt: no such dimension; did you mean",
        ),
        (
            GOOD + "space: {gated_resnet: {target: 1.4}}\n",
            "gated_resnet.target: 1.4 is not between 0 and 1",
        ),
        (
            GOOD + "space: {gated_resnet: {gate: [mlp]}}\n",
            "gate: mlp is not one of dependent, independent",
        ),
        (
            GOOD + "space: {gated_resnet: {target: {low: 0.8, high: 0.2}}}\n",
            "target: low 0.8 is above high 0.2",
        ),
    ],
)
def test_a_mistake_names_file_key_given_and_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_study(text, "s.yml")
    assert "\n" not in str(caught.value)


def test_the_keys_that_turn_something_off_or_bound_it_are_read() -> None:
    text = GOOD + "warm_start: false\nearly_stopping: false\nstarting_points: false\n"
    text += "region: {max_macs: 20M, min_accuracy: 0.9, within: 0.05}\n"
    text += "limits: {macs: 1.5G, parameters: 500k, megabytes: 2}\nbudget: {plateau: {trials: 7}}\n"
    spec = parse_study(text, "s.yml")
    assert (spec.warm_start, spec.early_stopping, spec.starting_points) == (False, False, False)
    assert (spec.region.max_macs, spec.region.min_accuracy, spec.region.within) == (2e7, 0.9, 0.05)
    assert (spec.limits.macs, spec.limits.parameters, spec.limits.megabytes) == (1.5e9, 5e5, 2.0)
    assert spec.budget.plateau is not None
    assert (spec.budget.plateau.trials, spec.budget.plateau.growth) == (7, 0.005)
    assert stored_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("objectives", "costs", "shown"),
    [
        ("accuracy", (), "macs"),
        ("accuracy, macs", ("macs",), "macs"),
        ("accuracy, parameters", ("parameters",), "parameters"),
        ("accuracy, macs_p95, parameters", ("macs_p95", "parameters"), "macs_p95"),
    ],
)
def test_one_to_three_objectives_name_the_costs_that_are_minimised(
    objectives: str, costs: tuple[str, ...], shown: str
) -> None:
    spec = parse_study(f"{GOOD}objectives: [{objectives}]\n", "s.yml")
    assert ([cost.name for cost in spec.costs], spec.cost.name) == (list(costs), shown)


def test_a_spec_stored_before_a_key_existed_has_what_it_turns_on_off() -> None:
    values = parse_study(GOOD, "s.yml").model_dump(mode="json")
    spec = stored_spec({key: value for key, value in values.items() if key not in BEFORE})
    assert (spec.warm_start, spec.early_stopping, spec.starting_points) == (False, False, False)


@pytest.fixture
def before(tmp_path: Path) -> Store:
    """A study that was stored before the keys existed, under what was the default sampler."""
    values = parse_study(GOOD, "s.yml").model_dump(mode="json") | {"sampler": "tpe"}
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    old = {key: value for key, value in values.items() if key not in (*BEFORE, "region", "limits")}
    store.add_study("s", old, GOOD, {"accuracy": 0.1, "macs": 1e7})
    return store


def test_a_study_from_before_the_keys_goes_on_as_it_was_begun_each_time(before: Store) -> None:
    for _ in range(2):
        spec, values, reference = _recorded(before, parse_study(GOOD, "s.yml"), GOOD, REFERENCE)
        assert reference.as_dict() == {"accuracy": 0.1, "macs": 1e7}
        assert (spec.warm_start, spec.early_stopping, spec.starting_points) == (False, False, False)
        assert spec.sampler == "tpe"
        before.set_spec("s", values, GOOD)
    record = before.study("s")
    assert stored_spec(record.spec) == spec


def test_a_study_with_the_keys_may_change_its_region_but_not_its_warm_start(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    _recorded(store, parse_study(GOOD, "s.yml"), GOOD, REFERENCE)
    changed = parse_study(
        GOOD + "region: {within: 0.05}\nearly_stopping: false\nlimits: {macs: 1M}\n", "s.yml"
    )
    spec, values, reference = _recorded(store, changed, GOOD, Reference(accuracy=0.1, macs=5e6))
    assert reference == REFERENCE  # the one it began with
    assert spec == changed
    assert values == changed.model_dump(mode="json")
    for key, text in (("warm_start", "warm_start: false\n"), ("sampler", "sampler: random\n")):
        with pytest.raises(
            ValueError, match=f"study s exists with another {key}; its trials could not be compared"
        ):
            _recorded(store, parse_study(GOOD + text, "s.yml"), GOOD, REFERENCE)


def test_a_study_from_before_warm_epochs_goes_on_with_a_third_of_the_epochs(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    spec = parse_study(GOOD, "s.yml")
    old = spec.model_dump(mode="json")
    old["budget"].pop("warm_epochs")
    store.add_study("s", old, GOOD, REFERENCE.as_dict())
    assert stored_spec(old).budget.short == 4
    for text in (GOOD, GOOD):  # twice: what is stored stays what it was
        found, values, _ = _recorded(store, parse_study(text, "s.yml"), text, REFERENCE)
        assert found.budget.short == 4
        assert "warm_epochs" not in values["budget"]
        store.set_spec("s", values, text)
    changed = parse_study(GOOD + "budget: {warm_epochs: 5}\n", "s.yml")
    with pytest.raises(ValueError, match=r"exists with another budget\.warm_epochs"):
        _recorded(store, changed, GOOD, REFERENCE)


def test_a_study_from_before_there_was_a_default_region_goes_on_without(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    old = parse_study(GOOD, "s.yml").model_dump(mode="json")
    old["region"] = dict.fromkeys(old["region"])
    store.add_study("s", old, GOOD, REFERENCE.as_dict())
    assert _recorded(store, parse_study(GOOD, "s.yml"), GOOD, REFERENCE)[0].region == Region()
    narrow = parse_study(GOOD + "region: {within: 0.1}\n", "s.yml")
    assert _recorded(store, narrow, GOOD, REFERENCE)[0].region.within == 0.1


def test_the_epochs_of_trials_may_not_change_later(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    _recorded(store, parse_study(GOOD, "s.yml"), GOOD, REFERENCE)
    for budget in ("epochs: 12", "epochs: 12, warm_epochs: 12", "trials: 99"):
        _recorded(store, parse_study(f"{GOOD}budget: {{{budget}}}\n", "s.yml"), GOOD, REFERENCE)
    for budget, key in (("epochs: 13", "epochs"), ("warm_epochs: 4", "warm_epochs")):
        changed = parse_study(f"{GOOD}budget: {{{budget}}}\n", "s.yml")
        with pytest.raises(ValueError, match=rf"exists with another budget\.{key};"):
            _recorded(store, changed, GOOD, REFERENCE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "",
            "s: 24 trials of 12 epochs, from baselines that are trained once for 12, over gated_resnet on digits",
        ),
        (
            "budget: {warm_epochs: 4}\n",
            "s: 24 trials, short ones of 4 epochs (budget.warm_epochs) from baselines that are trained once for 12, "
            "over gated_resnet on digits; once these add nothing, full ones of 12",
        ),
        ("warm_start: false\n", "s: 24 trials of 12 epochs over gated_resnet on digits"),
    ],
)
def test_the_first_line_says_how_long_a_trial_is(text: str, told: str) -> None:
    assert opening_line(parse_study(GOOD + text, "s.yml")) == told


def test_yaml_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(ValueError, match="is not valid YAML"):
        parse_study(f"study: !!python/object/apply:pathlib.Path.touch [{marker}]", "s.yml")
    assert not marker.exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yml: cannot be read"):
        read_study(tmp_path / "none.yml")


def test_the_space_is_narrowed_as_the_file_says() -> None:
    spec = parse_study(
        GOOD + "space: {gated_resnet: {target: {low: 0.3, high: 0.8}, backbone: [resnet8]}}",
        "s.yml",
    )
    by_name = {d.name: d for d in narrowed_spaces(spec)["gated_resnet"]}
    assert (by_name["target"].low, by_name["target"].high) == (0.3, 0.8)
    assert by_name["backbone"].choices == ("resnet8",)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "studies").glob("**/*.yml")), ids=lambda p: p.stem
)
def test_the_shipped_studies_are_valid(path: Path) -> None:
    spec, text = read_study(path)
    assert spec.study
    assert text.startswith("#"), "a shipped study begins with a comment that says what it is for"


FINE = "study: s\ndata: digits\nfamilies: [timm]\n"
RATES = {"scratch": (0.01, 0.3, 0.1), "fine": (1e-4, 3e-2, 3e-3), "both": (1e-4, 0.3, 0.1)}


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("", "scratch"),
        ("space: {timm: {pretrained: false}}", "scratch"),
        ("space: {timm: {pretrained: true}}", "fine"),
        ("space: {timm: {pretrained: [true]}}", "fine"),
        ("space: {timm: {pretrained: [false, true]}}", "both"),
        ("init_from: weights.pt", "fine"),
        ("init_from: {timm: weights.pt}", "fine"),
        ("recipe: fine_tuning", "fine"),
        ("recipe: scratch\nspace: {timm: {pretrained: true}}", "scratch"),
    ],
)
def test_trained_weights_are_searched_with_lower_learning_rates(text: str, rates: str) -> None:
    (space,) = narrowed_spaces(parse_study(f"{FINE}{text}\n", "s.yml")).values()
    lr = next(d for d in space if d.name == "lr")
    assert (lr.low, lr.high, lr.default) == RATES[rates]


def test_a_stored_study_of_trained_weights_keeps_the_ranges_that_it_was_begun_with() -> None:
    spec = parse_study(FINE + "space: {timm: {pretrained: true}}\n", "s.yml")
    values = {k: v for k, v in spec.model_dump(mode="json").items() if k != "recipe"}
    (space,) = narrowed_spaces(stored_spec(values)).values()
    assert next(d.low for d in space if d.name == "lr") == 0.01


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.003),
        ("lr", 1e-6),
        ("lr", [0.003, 1.0]),
        ("lr", {"low": 1e-5, "high": 1e-3}),
        ("adamw_lr", 0.05),
        ("momentum", 0),
        ("weight_decay", 0),
        ("batch", 20),
        ("batch", [8, 48, 1024]),
        ("label_smoothing", 0.4),
        ("gate_lr_mult", 50),
        ("target", 0.05),
        ("loss_weight", 100),
    ],
)
def test_a_study_file_may_name_any_number_that_makes_sense(name: str, value: object) -> None:
    optimizer = ", optimizer: adamw" if name == "adamw_lr" else ""
    parse_study(f"{FINE}space: {{timm: {{{name}: {value}{optimizer}}}}}\n", "s.yml")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", "-0.1", "-0.1 is not between 1e-08 and 100"),
        ("lr", "0", "0 is not between 1e-08 and 100"),
        ("momentum", "1", "1 is not between 0 and 0.9999"),
        ("batch", "1", "1 is not a whole number between 2 and 65536"),
        ("batch", "2.5", "2.5 is not a whole number between 2 and 65536"),
        ("lr", "{high: 0.001}", "low 0.01 is above high 0.001; give low too"),
        (
            "weight_decay",
            "{low: 0}",
            "low 0: the range is searched on a logarithmic scale; write a low above 0, or a list",
        ),
    ],
)
def test_a_number_that_makes_no_sense_is_told_in_one_line(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(ValueError, match="timm") as caught:
        parse_study(f"{FINE}space: {{timm: {{{name}: {value}}}}}\n", "s.yml")
    assert str(caught.value) == f"s.yml: space.timm.{name}: {message}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "init_from: weights.pt",
            "init_from; with `budget.warm_epochs` the file's network is trained first",
        ),
        ("warm_start: false", "warm_start: false; leave one of the two out"),
    ],
)
def test_distillation_without_baselines_to_learn_from_is_refused(text: str, reason: str) -> None:
    for value in ("0.5", "[0, 0.5]", "{low: 0.2}"):
        space = f"space: {{timm: {{distill: {value}}}}}\n"
        parse_study(FINE + space, "s.yml")
        with pytest.raises(ValueError, match=r"space\.timm\.distill") as caught:
            parse_study(f"{FINE}{space}{text}\n", "s.yml")
        assert str(caught.value) == (
            f"s.yml: space.timm.distill: no baseline is trained to learn from, because of {reason}"
        )
    parse_study(f"{FINE}space: {{timm: {{distill: 0}}}}\n{text}\n", "s.yml")


def test_distillation_of_a_frozen_trunk_is_refused() -> None:
    space = "dynamics: exits, pretrained: true, trunk: frozen"
    parse_study(f"{FINE}space: {{timm: {{{space}}}}}\n", "s.yml")
    with pytest.raises(ValueError, match="leave distill or trunk: frozen out"):
        parse_study(f"{FINE}space: {{timm: {{{space}, distill: 0.5}}}}\n", "s.yml")
    with pytest.raises(ValueError, match=r"timm.mixup: has no effect on a frozen trunk"):
        parse_study(f"{FINE}space: {{timm: {{{space}, mixup: 0.5}}}}\n", "s.yml")
    both = space.replace("trunk: frozen", "trunk: [frozen, finetuned]")
    parse_study(f"{FINE}space: {{timm: {{{both}, mixup: 0.5}}}}\n", "s.yml")


@pytest.mark.parametrize("dynamics", ["gates", "both", "[gates, both]"])
def test_behind_gates_a_frozen_trunk_reads_images_as_others_do(dynamics: str) -> None:
    space = f"dynamics: {dynamics}, pretrained: true, trunk: frozen, crop: resized, mixup: 0.2"
    parse_study(f"{FINE}space: {{timm: {{{space}, distill: 0.5}}}}\n", "s.yml")
    some = space.replace(dynamics, "[exits, gates]")
    parse_study(f"{FINE}space: {{timm: {{{some}}}}}\n", "s.yml")
    with pytest.raises(ValueError, match="leave distill or trunk: frozen out"):
        parse_study(f"{FINE}space: {{timm: {{{some}, distill: 0.5}}}}\n", "s.yml")


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ("{optimizer: adamw, lr: 0.1}", "needs optimizer to be sgd.*it is adamw; write adamw_lr"),
        ("{adamw_lr: 0.001}", "needs optimizer to be adamw or adam.*it is sgd; leave it out"),
    ],
)
def test_a_key_without_effect_is_refused(space: str, told: str) -> None:
    text = f"study: s\ndata: digits\nfamilies: [gated_resnet]\nspace: {{gated_resnet: {space}}}\n"
    with pytest.raises(ValueError, match=told):
        parse_study(text, "s.yml")


def test_a_key_with_effect_in_some_candidates_is_taken() -> None:
    space = "{optimizer: [sgd, adamw], lr: 0.1, adamw_lr: 0.001}"
    text = f"study: s\ndata: digits\nfamilies: [gated_resnet]\nspace: {{gated_resnet: {space}}}\n"
    assert parse_study(text, "s.yml").space["gated_resnet"]["lr"] == 0.1


def test_milestones_in_epochs_lie_within_every_training() -> None:
    space = "space: {gated_resnet: {lr_schedule: multistep, lr_milestones: 20+30}}\n"
    assert parse_study(GOOD + space + "budget: {epochs: 31}\n", "s.yml")
    for budget, epochs in (("epochs: 30", 30), ("epochs: 40, warm_epochs: 13", 13)):
        message = f"s.yml: space.gated_resnet.lr_milestones: 20.30: a training has {epochs} epochs"
        with pytest.raises(ValueError, match=message):
            parse_study(f"{GOOD}{space}budget: {{{budget}}}\n", "s.yml")


def test_a_study_from_before_measure_was_a_key_goes_on(tmp_path: Path) -> None:
    spec = parse_study(GOOD, "s.yml")
    store = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    old = spec.model_dump(mode="json")
    old.pop("measure")
    store.add_study("s", old, GOOD, REFERENCE.as_dict())
    assert as_begun(spec, store.find_study("s")) == spec
    changed = parse_study(GOOD + "measure: {passes: 5}\n", "s.yml")
    with pytest.raises(ValueError, match="exists with another measure"):
        as_begun(changed, store.find_study("s"))
