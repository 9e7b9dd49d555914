"""Timing units: in either runtime here, and elsewhere from a bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from search.latency.bundle import write_bundle
from search.latency.profile import check_device, profiled
from search.latency.table import read_table
from search.latency.time_units import BRANCH, CALL
from search.schedule.space_units import units_of_space
from search.schedule.timed_shapes import timed_shape, untrained
from spaces.contract.family import Candidate
from spaces.contract.narrowing import narrowed
from spaces.contract.policies import AlwaysOn
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.contract.units import WHOLE, Unit, units_of, whole_unit
from spaces.deploy.unit_program import unit_program
from tests.search.latency.tables import table_of

TASK = Task(channels=1, height=8, width=8, classes=3)
SMALL = {"backbone": "resnet8", "width": 0.25, "granularity": "layer", "gate": "dependent"}


@pytest.fixture(scope="module")
def units() -> tuple[Unit, ...]:
    return units_of(untrained(Candidate.of(family("gated_resnet"), SMALL, 1), TASK))


@pytest.fixture(scope="module")
def baseline() -> tuple[Unit, ...]:
    """A static network's units, and the network as a whole."""
    net = untrained(Candidate.of(family("gated_resnet"), SMALL, 1).baseline(), TASK)
    units = units_of(net)
    return (*units, whole_unit(net, units))


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_whole_network_is_timed_beside_its_units(
    baseline: tuple[Unit, ...], runtime: str
) -> None:
    table = profiled(baseline, runtime=runtime, threads=1, seconds=0.01)
    *parts, whole = baseline
    assert table.wholes == {whole.key: [unit.key for unit in parts]}
    alone = sum(table.own_ms(unit.key) for unit in parts)
    assert table.whole_shares == [(alone, pytest.approx(table.own_ms(whole.key) / alone))]


def test_what_is_written_as_a_program_still_infers_afterwards() -> None:
    own = family("multi_exit")
    net = untrained(Candidate.of(own, {"backbone": "resnet18", "width": 0.125}, 1), TASK)
    section = next(unit for unit in units_of(net) if unit.kind == "section")
    unit_program(section)
    assert not any(module.training for module in net.modules())


def test_whole_networks_of_one_input_are_told_apart_by_what_the_front_says_of_them() -> None:
    net = untrained(Candidate.of(family("gated_resnet"), SMALL, 1).baseline(), TASK)
    images = torch.zeros(1, TASK.channels, TASK.height, TASK.width)
    (macs,) = net(images, AlwaysOn()).macs_B.tolist()
    shape = f"{TASK.channels}x{TASK.height}x{TASK.width}"
    assert whole_unit(net, units_of(net)).words == f"network {shape} of {macs / 1e6:.3g} M MACs"


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_each_unit_has_a_time(units: tuple[Unit, ...], runtime: str) -> None:
    before = torch.get_num_threads()
    table = profiled(units, runtime=runtime, threads=1, seconds=0.01)
    assert set(table.units) == {CALL, BRANCH, *(unit.key for unit in units)}
    assert table.versions[runtime]
    assert torch.get_num_threads() == before
    block = next(unit for unit in units if unit.kind == "block")
    assert table.units[block.key].unit == block.words
    assert table.units[block.key].median > table.call_ms


def test_a_device_that_is_not_there_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU here that PyTorch can use; take cpu"):
            check_device("torch", "cuda")
    with pytest.raises(ValueError, match="runs on CPUs only; install onnxruntime-gpu"):
        check_device("onnxruntime", "cuda")


@pytest.mark.slow
def test_a_bundle_needs_nothing_of_ours(tmp_path: Path, units: tuple[Unit, ...]) -> None:
    folder, table = tmp_path / "units", tmp_path / "phone.json"
    assert write_bundle(units, folder, 1) == len({unit.key for unit in units})
    assert write_bundle(units[:3], folder, 1) == 3, "an earlier bundle is overwritten"
    command = [sys.executable, "-I", str(folder / "time_units.py"), "--seconds", "0.01"]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--out", str(table)], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = read_table(table)
    assert set(found.units) == {CALL, BRANCH, *(unit.key for unit in units[:3])}
    listed = json.loads((folder / "units.json").read_text())
    assert listed["units"][units[0].key] == units[0].words
    assert found.wholes == {}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ValueError, match="is not empty and holds no units"):
        write_bundle(units, tmp_path / "other", 1)


@pytest.mark.slow
@pytest.mark.slow
def test_a_bundle_brings_whole_networks_back(tmp_path: Path, baseline: tuple[Unit, ...]) -> None:
    write_bundle(baseline, tmp_path / "units", 1)
    script, out = tmp_path / "units" / "time_units.py", tmp_path / "phone.json"
    command = [sys.executable, "-I", str(script), "--seconds", "0.01", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    *parts, whole = baseline
    assert read_table(out).wholes == {whole.key: [unit.key for unit in parts]}


def test_the_units_of_a_space_are_those_of_all_its_networks() -> None:
    fixed = {**SMALL, "backbone": ["resnet8", "resnet14"], "exits": "none"}
    spaces = {"gated_resnet": narrowed(family("gated_resnet").space, fixed, "space")}
    every = list(units_of_space(spaces, TASK))
    found = {unit.key for unit in every}
    assert sum(unit.kind == WHOLE for unit in every) == 2, "the baselines, whole"
    for backbone in ("resnet8", "resnet14"):
        for gated in (True, False):
            values = SMALL | {"backbone": backbone, "gated": gated}
            own = units_of(untrained(Candidate.of(family("gated_resnet"), values, 1), TASK))
            assert {unit.key for unit in own} <= found


def test_the_shape_of_a_candidate_has_its_latency(units: tuple[Unit, ...]) -> None:
    dynamic = Candidate.of(family("gated_resnet"), SMALL, 1)
    plain = dynamic.baseline()
    both = [*units, *units_of(untrained(plain, TASK))]
    shape = timed_shape(table_of(both))
    assert shape(plain, TASK).latency_ms == shape(dynamic, TASK).latency_ms
    assert timed_shape(None)(plain, TASK).latency_ms is None
    with pytest.raises(ValueError, match="the latency table has no time of"):
        timed_shape(table_of(units_of(untrained(plain, TASK))))(dynamic, TASK)
