"""What an exported folder may hold beside the model in float32. Imports next to nothing: the command line reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUANTIZED = ("int8", "float16", "bfloat16")  # number formats that a file of its own may have


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is wanted: files in other number formats, and all points of the training in each file."""

    quantize: Sequence[str] = ()
    whole_curve: bool = False


PLAIN = Extras()


def variant_file(name: str) -> str:
    """The file of the model in another number format."""
    return f"model-{name}.onnx"


OPTIONAL = tuple(variant_file(name) for name in QUANTIZED)  # files that an export may have
