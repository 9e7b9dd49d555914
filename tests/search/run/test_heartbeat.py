"""Long work says that it goes on, where nothing else is said."""

from __future__ import annotations

import io
import threading
from itertools import pairwise

import pytest
from rich.console import Console

import search.run.heartbeat as module
from search.run.heartbeat import Heartbeat, Steps


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    return clock


def test_a_line_is_said_only_after_a_quiet_while(clock: Clock) -> None:
    said: list[str] = []
    heartbeat = Heartbeat(lambda: f"at {clock.now:.0f}", said.append)
    for clock.now in (100.0, 119.0, 120.0, 130.0, 140.0, 141.0):
        heartbeat.beat()
    assert said == ["at 120", "at 140"]
    clock.now = 150.0
    heartbeat.heard()
    clock.now = 165.0
    heartbeat.beat()
    assert said == ["at 120", "at 140"]


def test_it_speaks_by_itself_while_this_thread_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(module, "TICK", 0.01)
    spoke = threading.Event()
    with Heartbeat(lambda: "alive", lambda line: spoke.set()):
        assert spoke.wait(10)
    assert not [one for one in threading.enumerate() if one.name == "heartbeat"]


def test_a_log_is_never_silent_for_half_a_minute(clock: Clock) -> None:
    spoke = [clock.now]

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.now += timeout or 0.0
            return clock.now > 400.0

    heartbeat = Heartbeat(lambda: "", lambda line: spoke.append(clock.now))
    heartbeat._over = Over()
    heartbeat._run()
    silent = [after - before for before, after in pairwise([*spoke, clock.now])]
    assert max(silent) < 30
    assert len(silent) < 30, "nor does it speak all the time"


def test_steps_say_what_is_done_and_that_it_still_is(clock: Clock) -> None:
    written = io.StringIO()
    step = Steps(Console(file=written, width=40))
    step("reading the images")
    step.say("[b] is the name of a class, and this line is longer than the terminal")
    clock.now += 45
    step._heartbeat.beat()
    assert written.getvalue().splitlines() == [
        "  reading the images",
        "[b] is the name of a class, and this line is longer than the terminal",
        "  still reading the images, for 45 s",
    ]
