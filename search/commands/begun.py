"""What a study that exists was begun as, against what its file says now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.spec import BEFORE, StudySpec, budget_begun
from search.study_parts import Keys, Region
from storage.records import StudyRecord
from storage.settings import Settings
from storage.store import Store

FREE_TO_CHANGE = (
    "budget",
    "run",
    "data_root",
    "region",
    "limits",
    "early_stopping",
    "cascades",
    "repeats",  # further ones come after those that were trained
    "skip_broken",  # images that it leaves out would be others than the study began with, which is refused
)  # of a study that exists


def as_begun(spec: StudySpec, known: StudyRecord | None) -> StudySpec:
    """The spec to search under: a study from before some keys existed goes on as it was begun.

    Raises ValueError when the file asks for something else by the name of a stored study.
    """
    if known is None:
        return spec
    old = {key: value for key, value in BEFORE.items() if key not in known.spec}
    if "warm_start" in old:
        old["sampler"] = known.spec["sampler"]
    spec = spec.model_copy(update=old)
    if "region" not in spec.model_fields_set and _no_region(known.spec):
        spec = spec.model_copy(update={"region": Region()})  # from before there was a default
    begun = budget_begun(known.spec["budget"], spec.warm_start and not spec.init_from)
    if "warm_epochs" not in known.spec["budget"] and spec.budget.warm_epochs is None:
        budget = spec.budget.model_copy(update={"warm_epochs": begun.get("warm_epochs")})
        spec = spec.model_copy(update={"budget": budget})
    defaults = _defaults()
    for key, value in spec.model_dump(mode="json").items():
        before = known.spec.get(key, BEFORE.get(key, defaults[key]))
        if key == "budget":
            key, before, value = _changed_epochs(begun, value)
        elif key in FREE_TO_CHANGE:
            continue
        if before != value:
            raise ValueError(
                f"study {spec.study} exists with another {key}; its trials could not be compared. Give the file "
                f"another `study:` name, or restore {key} (the rest of budget, run, region, limits, cascades and "
                "early_stopping may change)"
            )
    return spec


def going_on(spec: StudySpec, unread: Sequence[str], settings: Settings) -> list[str]:
    """Lines for messages on keys that no candidate reads: the study was begun with them, before they were refused.

    Raises ValueError with the first message where it was not.
    """
    known = None
    if settings.folder.exists():
        known = Store.open(settings.database_url).find_study(spec.study)
    if known is None or known.spec["space"] != spec.model_dump(mode="json")["space"]:
        raise ValueError(unread[0])
    return [
        f"{one.rpartition(';')[0]}; study {spec.study} was begun with it and goes on"
        for one in unread
    ]


def _defaults() -> dict[str, Any]:
    """What each key says where a file does not have it, as it is stored."""
    found = {key: field.default for key, field in StudySpec.model_fields.items()}
    return {key: _stored(one) for key, one in found.items()}


def _stored(value: Any) -> Any:
    """The value of a key as studies store it."""
    if isinstance(value, Keys):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value


def _no_region(known: Mapping[str, Any]) -> bool:
    """Whether a stored study limits nothing, whichever limits there were to name then."""
    region = known.get("region")
    return region is not None and not any(value is not None for value in region.values())


def _changed_epochs(
    begun: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[str, int | None, int | None]:
    """(key, what it was, what it is) of the lengths of trainings: of the first that changed, else of the last."""
    for key in ("epochs", "warm_epochs"):
        before, value = (one.get(key) or one["epochs"] for one in (begun, now))
        if before != value:
            break
    return f"budget.{key}", before, value
