"""What an exported model takes on this machine beside what the study's latency table predicted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.latency.drift import drift_text
from search.latency.table import read_table
from search.objectives import LATENCY

if TYPE_CHECKING:
    from onnx import ModelProto

    from search.export.static_net import StaticNet
    from spaces.deploy.ship import DeployedNet
    from trainers.data.splits import Split


def beside_prediction(
    table_file: str | None,
    validation: Mapping[str, Any],
    net: DeployedNet,
    test: Split,
    static: StaticNet,
    programs: Sequence[ModelProto],
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """The prediction, and milliseconds of an image as the table's units were timed; None where nothing was predicted.

    The prediction is a mean over validation images, what is measured one over some test images. `programs` are both
    networks as ONNX. `why` says why nothing was measured.
    """
    from search.latency.whole import (
        elsewhere,
        whole_ms,
    )  # PyTorch, which pages that show a card do without

    predicted = validation.get(LATENCY.column)
    if table_file is None or predicted is None:
        return None
    found: dict[str, Any] = {"predicted_ms": predicted}
    try:
        table = read_table(Path(table_file))
    except ValueError as error:
        return found | {"why": str(error)}
    found["table"] = table.words
    if (why := elsewhere(table)) is not None:
        return found | {"why": why}
    say("timing it as the latency table was")
    measured, beside = whole_ms((net, static.net), (test, static.images), table, programs)
    return found | {
        "measured_ms": measured,
        "static_ms": beside,
        "static_predicted_ms": static.predicted_ms,
        "ratio": measured / predicted,
    }


def predicted_text(report: Mapping[str, Any]) -> str | None:
    """The prediction beside what was measured; None where nothing was predicted."""
    found = report.get("predicted")
    if found is None:
        return None
    said = f"{LATENCY.text(found['predicted_ms'])} predicted"
    if "why" in found:
        return f"{said}, not measured: {found['why']}"
    return (
        f"{said}, {LATENCY.text(found['measured_ms'])} measured: {found['ratio']:.2f} times that; "
        f"static {LATENCY.text(found['static_ms'])} ({found['table']})"
    )


def machine_text(report: Mapping[str, Any]) -> str | None:
    """What to know where the machine was not as fast at export as when its table was made; None where it was."""
    found = report.get("predicted") or {}
    if "static_ms" not in found:
        return None
    return drift_text(found["static_ms"], found.get("static_predicted_ms"))


def predicted_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The row of the card."""
    if text := predicted_text(report):
        yield "latency of an image by the study's table", text
    if text := machine_text(report):
        yield "the machine at export", text
