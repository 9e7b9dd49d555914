"""What `dynafront.connect` reads: the same front, picture and choice that a program gets on the server's machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from search.commands.choice import Choice, chosen
from search.commands.front import what_is_shown
from search.front.formats import as_rows
from search.front.stored import study_front
from search.service.wire import packed, plain
from storage.records import StudyRecord
from storage.store import Store


def client_reads(store: Store, asked: Callable[..., str]) -> dict[str, Callable[[], Any]]:
    """Reads by path; `asked(name, default)` gives what stands in the query."""

    def family() -> str | None:
        return asked("family", "") or None

    return {
        "front": lambda: front(store, asked("study"), family()),
        "picture": lambda: picture(store, asked("study"), family()),
        "best": lambda: best(store, asked("study"), _choice(asked, family())),
    }


def front(store: Store, name: str, family: str | None) -> dict[str, Any]:
    """The table of `dynafront front NAME --format csv`. Raises ValueError for a study or family that is not there."""
    columns, rows = as_rows(study_front(store, _known(store, name), family).members)
    return {"columns": columns, "rows": plain(rows)}


def picture(store: Store, name: str, family: str | None) -> dict[str, Any]:
    """What a picture of the front is drawn from: all points. Raises ValueError as `front`."""
    record = _known(store, name)
    found = study_front(store, record, family)
    points, shown = what_is_shown(store, record, found)
    return {
        "points": packed(points),
        "front": packed(shown["front"]),
        "baselines": packed(shown["baselines"]),
        "hypervolume": shown["hypervolume"],
        "cost": shown["cost"].name,
        "majority": shown["majority"],
        "budget": asdict(found.budget),
    }


def best(store: Store, name: str, choice: Choice) -> dict[str, Any]:
    """The point that `dynafront export` would pick. Raises ValueError with the nearest offer where there is none."""
    return {"point": packed([chosen(store, _known(store, name), choice)])}


def _choice(asked: Callable[..., str], family: str | None) -> Choice:
    share = asked("min_accuracy", "") or None
    return Choice(
        pick=asked("pick", "") or None,
        max_macs=asked("max_macs", "") or None,
        max_latency_ms=asked("max_latency_ms", "") or None,
        min_accuracy=None if share is None else _share(share),
        family=family,
    )


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"?min_accuracy={text} is not a share between 0 and 1") from None


def _known(store: Store, name: str) -> StudyRecord:
    if (record := store.find_study(name)) is None:
        raise ValueError(f"there is no study {name}")
    return record
