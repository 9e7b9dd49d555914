"""What a person sees while a study runs: counts, what trains now, the front and its hypervolume, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.front.eligible import ON_OFFER
from search.front.metric import named
from search.report.amounts import macs
from search.report.front_table import terminal_table
from search.report.text import network_text
from search.run.heartbeat import Heartbeat
from search.run.job import Failure, Job
from search.run.notebook import NotebookConsole, NotebookView
from storage.records import TRAININGS, Kind, PointRecord, training_text
from trainers.fit import EpochResult
from trainers.metrics import METRICS

ROWS = 8  # of the front that are shown while searching
NAMED = 3  # trainings that a status line names


class Progress:
    """A live view on a terminal and in a notebook, single lines elsewhere. Use as a context manager."""

    def __init__(self, console: Console, study: str, total: int, workers: int) -> None:
        self.console, self.study, self.total, self.workers = console, study, total, workers
        self.complete = self.failed = self.stopped = 0
        # trainings that ended in this session, a stopped one that went on twice
        self.session_done = 0
        self.running: dict[tuple[str, int], tuple[Job, EpochResult | None]] = {}
        self._after: dict[tuple[str, int], int] = {}  # epoch after which running trials went on
        self.front: Sequence[PointRecord] = ()
        self.hypervolume = 0.0
        self.baselines_left = 0  # still to be trained
        # seconds after which the study ends, whatever is left to train
        self.budget_left: Callable[[], float | None] = lambda: None
        self._doing = ""  # what is done while nothing trains
        self._does: dict[tuple[str, int], str] = {}  # trainings that do something else than epochs
        self._began: dict[tuple[str, int], float] = {}  # since when they run
        self.started = time.monotonic()
        self._heartbeat = Heartbeat(lambda: f"  {self.status()}", self.say)
        self._live = Live(
            console=console, get_renderable=self._view, refresh_per_second=4, transient=True
        )
        self._shown: AbstractContextManager[object] = self._heartbeat
        if console.is_terminal:
            self._shown = self._live
        elif isinstance(console, NotebookConsole):
            self._shown = NotebookView(self._view)

    def __enter__(self) -> Progress:
        self._shown.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._shown.__exit__(kind, error, trace)

    def doing(self, what: str) -> None:
        """What is done now that is no training."""
        self._doing = what
        if not self.console.is_terminal:
            self.say(f"  {what}")

    def say(self, line: str | Text) -> None:
        """One line that stays. A string is shown as it is: nothing in it is read as markup. Pipes have it unbroken."""
        self._heartbeat.heard()
        text = line if isinstance(line, Text) else Text(line)
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def counts(
        self, *, complete: int, failed: int, stopped: int = 0, baselines_left: int = 0
    ) -> None:
        self.complete, self.failed, self.stopped = complete, failed, stopped
        self.baselines_left = baselines_left

    def show_front(self, front: Sequence[PointRecord], hypervolume: float) -> None:
        self.front, self.hypervolume = front, hypervolume

    def trial_started(self, job: Job, after: int = 0) -> None:
        """Its training begins, or goes on after this epoch."""
        first = not self._began and not self.session_done
        self._doing = ""
        self.running[job.name], self._began[job.name] = (job, None), time.monotonic()
        self._after[job.name] = after
        if first and not self.console.is_terminal:
            name = training_text(*job.name)
            self.say(f"  the first training starts: {name}, {job.epochs} epochs, {_size(job)}")

    def trial_waits(self, job: Job) -> None:
        """It no longer trains, and starts again later."""
        self._over(job)

    def epoch(self, job: Job, result: EpochResult) -> None:
        self._does.pop(job.name, None)
        self.running[job.name] = (job, result)
        if result.epoch < self._after.get(job.name, 0):  # its checkpoint was missing
            self._after[job.name] = result.epoch - 1

    def training_does(self, job: Job, what: str) -> None:
        """What it does until its next epoch."""
        self._does[job.name] = what

    def trial_finished(self, job: Job, joined: Sequence[PointRecord]) -> None:
        """`joined` are the training's points that are on the front now."""
        self._ended(job)
        if job.kind in ON_OFFER:
            self._say_ended(job, "", joined)
        elif not self.console.is_terminal:
            self.say(f"{TRAININGS[job.kind]} {job.number}: {_size(job)}  ({self.status()})")

    def trial_stopped(self, job: Job, epoch: int, joined: Sequence[PointRecord]) -> None:
        """`joined` are the points of the trial, stopped early after this epoch, that are on the front now."""
        self._ended(job)
        self._say_ended(job, f", stopped after epoch {epoch} of {job.epochs},", joined)

    def trial_resumed(self, job: Job, epoch: int) -> None:
        """A stopped trial goes on after this epoch."""
        label = Text(f"trial {job.number:>3}", "bold")
        self.say(Text.assemble(label, f" goes on after epoch {epoch} of {job.epochs}"))

    def trial_failed(self, job: Job, failure: Failure) -> None:
        self._ended(job)
        label = Text(f"{TRAININGS[job.kind]} {job.number:>3} failed", "yellow")
        self.say(Text.assemble(label, f": {failure.error}"))

    def _ended(self, job: Job) -> None:
        self._over(job)
        self.session_done += 1

    def _over(self, job: Job) -> None:
        self.running.pop(job.name, None)
        self._began.pop(job.name, None)
        self._after.pop(job.name, None)
        self._does.pop(job.name, None)

    def _say_ended(self, job: Job, how: str, joined: Sequence[PointRecord]) -> None:
        number = f"{job.number:>3}" if job.kind == Kind.SEARCH else str(job.number)
        label = Text.assemble((f"{TRAININGS[job.kind]} {number}", "bold"), how)
        if joined:
            best = max(joined, key=lambda p: p.accuracy)
            cost, reached = (
                macs(best.macs_mean),
                named(f"{best.accuracy:.1%}", METRICS[best.metric]),
            )
            self.say(
                label.append(
                    f" joins the front with {len(joined)} point{'s' * (len(joined) > 1)}, up to "
                    f"{reached} at {cost}  hypervolume {self.hypervolume:.4f}"
                    f"{'' if self.console.is_terminal else f'  ({self.status()})'}"
                )
            )
        elif not self.console.is_terminal:
            self.say(label.append(f" is dominated  ({self.status()})"))

    def status(self) -> str:
        """Counts and time left in one line."""
        failed = f", {self.failed} failed" if self.failed else ""
        plural = "s" * (self.baselines_left > 1)
        baselines = f", {self.baselines_left} baseline{plural} to go" if self.baselines_left else ""
        done = f"{self.complete + self.stopped} of {self.total} trials done"
        stopped = f" ({self.stopped} stopped early)" if self.stopped else ""
        running = f"{len(self.running)} running{self._running_text()}"
        doing = f", {self._doing}" if self._doing else ""
        return f"{done}{stopped}, {running}{baselines}{failed}{doing}{self._left_text()}"

    def _left_text(self) -> str:
        """How long it takes; where the study's hours end before that, until then."""
        left, most = self._seconds_left(), self.budget_left()
        if most is not None and self._waiting > 0 and (left is None or most < left):
            return f", {_duration(most)} of its time left" if most else ", its time is spent"
        return f", about {_duration(left)} left" if left is not None else ""

    def _running_text(self) -> str:
        """Which trainings run, how far each is, and since when; empty where the terminal has a table of them."""
        if self.console.is_terminal or not self.running:
            return ""
        now, words = time.monotonic(), []
        for name, (job, result) in list(self.running.items())[:NAMED]:
            done = self._reached(name, result)
            where = f"epoch {done} of {job.epochs} done" if done else "in its first epoch"
            where, since = self._does.get(name, where), _duration(now - self._began[name])
            words.append(f"{training_text(job.kind, job.number)}: {where}, {since}")
        more = len(self.running) - NAMED
        return f" ({'; '.join([*words, *([f'{more} more'] if more > 0 else [])])})"

    def _reached(self, name: tuple[str, int], result: EpochResult | None) -> int:
        """The last epoch that a running training has finished, in this session or before."""
        return result.epoch if result else self._after.get(name, 0)

    @property
    def _waiting(self) -> int:
        """Trainings that have not ended."""
        return self.total - self.complete - self.stopped - self.failed + self.baselines_left

    def _seconds_left(self) -> float | None:
        """From the mean time of what ended or trained in this session, early or not."""
        done = float(self.session_done)
        for job, result in self.running.values():
            first = self._after.get(job.name, 0)
            rest = max(1, job.epochs - first)  # all epochs may have been done before
            done += (result.epoch - first) / rest if result else 0.0
        if done < 0.3:
            return None
        if self._waiting <= 0:
            return None
        left = max(0.0, self._waiting - (done - self.session_done))
        return left * (time.monotonic() - self.started) / done

    def _view(self) -> Group:
        header = Text.assemble((self.study, "bold"), f"  {self.status()}")
        parts: list[Text | Table] = [header]
        running = Table.grid(padding=(0, 2))
        for name in ("training", "epochs", "score", "network"):
            running.add_column(no_wrap=name != "network", overflow="fold")
        for job, result in list(self.running.values()):  # drawn by another thread
            epochs = f"epoch {self._reached(job.name, result):>3}/{job.epochs}"
            epochs = self._does.get(job.name, epochs)
            score = ""
            if result:
                reached = named(f"{result.metrics[f'val/{job.metric}']:.1%}", METRICS[job.metric])
                score = f"{reached} at {macs(result.metrics['val/macs'])}"
            running.add_row(
                f"  {TRAININGS[job.kind]} {job.number}", epochs, score, Text(_size(job))
            )
        parts.append(running)
        if self.front:
            parts += [
                Text(f"  front of {len(self.front)} points, hypervolume {self.hypervolume:.4f}"),
                terminal_table(self.front, self.console.width, ROWS),
            ]
        return Group(*parts)


def _size(job: Job) -> str:
    return network_text(job.family, job.params)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
