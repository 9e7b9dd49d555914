"""What an exported folder may hold beside the model in float32. Imports next to nothing: the command line reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUANTIZED = ("int8", "float16", "bfloat16")  # number formats that a file of its own may have
FORMATS = ("onnx", "pt2")  # of files that hold the whole network; that of ONNX is always there


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is wanted: files in other formats and number formats, and all points of the training in each file.

    `exit`: the number, from 1, of the exit at which the network ends; None: where the point lets it.
    """

    formats: Sequence[str] = ("onnx",)
    quantize: Sequence[str] = ()
    whole_curve: bool = False
    exit: int | None = None

    def check(self) -> None:
        """Raise ValueError where two wishes exclude each other."""
        if self.whole_curve and self.exit is not None:
            raise ValueError(
                f"--exit {self.exit}: a network that ends there has not all points of its training; leave out --exit "
                "or --whole-curve"
            )


PLAIN = Extras()


def variant_file(name: str) -> str:
    """The file of the model in another number format."""
    return f"model-{name}.onnx"


# files that an export may have
OPTIONAL = ("model.pt2", *(variant_file(name) for name in QUANTIZED))
