"""The file that holds a latency table, and what is wrong with others."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import torch

from search.latency.table import LatencyTable, read_table, write_table
from search.latency.time_units import clock_of, interleaved, summary
from tests.search.latency.tables import table_of
from trainers.latency import latencies_ms


def test_a_table_is_written_and_read(tmp_path: Path) -> None:
    table = table_of([], threads=4, batch=2)
    write_table(table, tmp_path / "new" / "t.json")
    assert read_table(tmp_path / "new" / "t.json") == table
    assert table.words == "onnxruntime 1.20 on phone, cpu, 4 threads, batch 2"
    assert table.own_ms("branch") == 0.25


def test_a_unit_that_is_timed_below_a_call_adds_nothing() -> None:
    assert table_of([], branch=0.5).own_ms("branch") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: [], "is no latency table; dynafront profile writes one"),
        (lambda values: values | {"batch": 0}, "batch: "),
        (lambda values: values | {"format": 9}, "format: "),
        (lambda values: values | {"units": {}}, "has no time of call; write it anew"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, change, message: str) -> None:
    file = tmp_path / "t.json"
    file.write_text(json.dumps(change(table_of([]).model_dump())))
    with pytest.raises(
        ValueError, match=re.escape(str(file)) + ".*" + re.escape(message)
    ) as raised:
        read_table(file)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read .*; dynafront profile writes a latency"):
        read_table(tmp_path / "none.json")


def test_units_take_turns_and_late_ones_are_measured_too() -> None:
    calls: list[str] = []
    found = interleaved([lambda: calls.append("a"), lambda: calls.append("b")], seconds=0)
    assert "".join(calls) == "aaaabbbb" * 3
    assert all(0 < one["low"] <= one["median"] <= one["high"] for one in found)
    assert summary([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}


def test_no_two_fields_of_a_table_say_the_same() -> None:
    assert set(LatencyTable.model_fields) == {
        "format", "machine", "runtime", "device", "threads", "batch", "versions", "units", "wholes",
    }  # fmt: skip


def test_what_else_runs_does_not_count_where_one_thread_of_a_cpu_computes() -> None:
    """A busy machine once said 4 ms of a network that takes 1.8."""
    waits = [lambda: time.sleep(0.01)]
    (own,), (passed,) = (interleaved(waits, 0, clock=clock_of(threads)) for threads in (1, 2))
    assert own["median"] < 2
    assert passed["median"] >= 9
    assert clock_of(1, "cuda") is time.perf_counter
    images = [torch.zeros(1)]
    (latency,) = latencies_ms(
        [lambda _: time.sleep(0.01)], images, warm_up=0, repeats=3, clock=clock_of(1)
    )
    assert latency.median < 2
