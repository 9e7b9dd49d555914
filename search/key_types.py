"""Types of values in a study file, with what each may be: amounts, sides of images, weights, shares, counts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from search.objectives import MOST_MACS, macs_number, milliseconds
from search.spec_errors import shown
from storage.yaml_text import clipped

AMOUNT_TEXT = r"^\s*(\d+\.?\d*([eE]\+?\d{1,3})?|\.\d+)\s*[kKmMgG]?\s*([mM][aA][cC][sS])?\s*$"
AMOUNT = {
    "anyOf": [
        {"type": "number", "minimum": 1, "maximum": MOST_MACS},
        {"type": "string", "pattern": AMOUNT_TEXT},
    ]
}
Macs = Annotated[float, BeforeValidator(lambda value: _macs(value)), WithJsonSchema(AMOUNT)]
LATENCY_TEXT = r"^\s*(\d+\.?\d*|\.\d+)\s*([mM][sS])?\s*$"
MILLISECONDS = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": LATENCY_TEXT},
    ]
}
Milliseconds = Annotated[
    float, BeforeValidator(lambda value: _ms(value)), WithJsonSchema(MILLISECONDS)
]
Weights = Annotated[str | dict[str, str], BeforeValidator(lambda value: _weights(value))]
SIDE = {"type": "integer", "minimum": 4, "maximum": 4096}
SIDES = {"anyOf": [SIDE, {"type": "array", "items": SIDE, "minItems": 1, "uniqueItems": True}]}
Sides = Annotated[
    int | tuple[int, ...], BeforeValidator(lambda value: _sides(value)), WithJsonSchema(SIDES)
]
GPUS = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 64},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    ]
}
Gpus = Annotated[int | float, BeforeValidator(lambda value: _gpus(value)), WithJsonSchema(GPUS)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Trials = Annotated[int, Field(ge=1, le=1_000_000)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]


def _macs(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{clipped(repr(value))} is not a number; write it like 500k, 20M or 1.5G")
    return float(macs_number(value))


def _ms(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{clipped(repr(value))} is not a number of milliseconds; write it like 5")
    return milliseconds(value)


def _gpus(value: object) -> object:
    """GPUs of a training: whole ones, or a share of one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value in range(1, 65):
            return int(value)
        if 0 < value < 1:
            return value
    raise ValueError(
        f"{shown(value)} is neither a whole number from 1 to 64 nor a share of a GPU, such as 0.5"
    )


def _sides(value: object) -> object:
    """A side, or several in ascending order; of a list with one entry, the entry."""
    sides: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int):
            raise ValueError(f"{shown(side)}: input should be a valid integer, or a list of them")
        if not 4 <= side <= 4096:
            raise ValueError(f"{side} is not between 4 and 4096")
    if not sides:
        raise ValueError("an empty list; give a side in pixels, or several")
    if len(set(sides)) < len(sides):
        raise ValueError(f"{next(s for s in sides if sides.count(s) > 1)} stands there twice")
    return sides[0] if len(sides) == 1 else tuple(sorted(sides))


def _weights(value: object) -> object:
    sources = value.values() if isinstance(value, dict) else [value]
    if not all(isinstance(source, str) and source for source in sources):
        raise ValueError(
            f"{shown(value)} is neither a file, nor torchvision:NAME or timm:NAME, nor one of these by family"
        )
    return value
