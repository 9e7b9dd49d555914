"""What a search is about to do, and how it ended, in words. Imports nothing that trains: the first line is for now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from search.schedule.warm_start import two_lengths, warm
from search.spec import StudySpec


@dataclass(frozen=True)
class Finished:
    """How a session with a study ended."""

    complete: bool  # the budget's trials are all done, or the front grows no more
    plateau: bool
    trials: int
    points_on_front: int


def opening_line(spec: StudySpec) -> str:
    """What a search is about to do, for a terminal: first of all how long a trial is, and what it starts from."""
    full, where = spec.budget.epochs, f"over {', '.join(spec.families)} on {spec.data}"
    from_baselines = [name for name in spec.families if warm(spec, name)]
    if not from_baselines:
        return f"{spec.study}: {spec.budget.trials} trials of {full} epochs {where}"
    only = "" if len(from_baselines) == len(spec.families) else f" ({', '.join(from_baselines)})"
    start = f"from baselines that are trained once for {full}{only}"
    if not two_lengths(spec):
        return f"{spec.study}: {spec.budget.trials} trials of {full} epochs, {start}, {where}"
    return (
        f"{spec.study}: {spec.budget.trials} trials, short ones of {spec.budget.short} epochs (budget.warm_epochs) "
        f"{start}, {where}; once these add nothing, full ones of {full}"
    )


def why_ended(spec: StudySpec, finished: Finished) -> Iterator[str]:
    """Why the search ended before its budget's trials, in a line; none where it did not."""
    if finished.plateau and spec.budget.plateau:
        wait = spec.budget.plateau
        yield (
            f"The front has not grown by {wait.growth:.2%} over the last {wait.trials} trials: the search has ended. "
            "Take budget.plateau out, or raise it, to go on."
        )
    elif not finished.complete:
        yield (
            f"The budget of {spec.budget.hours} hours is spent with trials left; raise budget.hours to go on."
        )


def closing_lines(spec: StudySpec, finished: Finished) -> Iterator[str]:
    """Why the search ended before its budget's trials, and what can be done now, for a terminal."""
    yield from why_ended(spec, finished)
    commands = {
        f"dynafront ui {spec.study}": "the front in the MLflow UI",
        f"dynafront front {spec.study} --plot front.html": "an interactive page of it",
        f"dynafront export {spec.study}": "the cheapest model as good as the best",
    }
    widest = max(map(len, commands))
    for command, what in commands.items():
        yield f"  {command:<{widest}}  {what}"
