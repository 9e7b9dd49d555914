"""Single images with their class, the network's answer and the MACs that they took.

Shapes: C channels, H x W pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from search.inspection.figure import short
from search.inspection.markup import tip
from search.inspection.subject import Subject
from search.report.amounts import macs
from search.report.canvas import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRONG = "#b42318"
LARGE = 64  # pixels a side, from which on they are too fine to be seen singly


@dataclass(frozen=True)
class Shot:
    """One image as a base64 PNG, its class, the network's answer, and the MACs that it took."""

    png: str
    label: str
    answer: str
    macs: float

    @property
    def right(self) -> bool:
        return self.label == self.answer


def shots(subject: Subject, chosen: Sequence[int]) -> list[Shot]:
    """Images of the pass by their numbers in it."""
    seen, classes = subject.seen, subject.data.classes
    return [
        Shot(
            png_text(seen.small[i]),
            classes[int(seen.label_N[i])],
            classes[int(seen.answer_N[i])],
            float(seen.macs_N[i]),
        )
        for i in chosen
    ]


def png_text(image_CHW: Tensor) -> str:
    """A uint8 image of one or three channels as a base64 PNG."""
    pixels = image_CHW[0] if len(image_CHW) == 1 else image_CHW[:3].permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def pixels_of(png: str) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 of such a text."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def show(axes: Axes, shot: Shot, *, gray: bool = False) -> None:
    """The image alone, in axes of its own."""
    pixels = pixels_of(shot.png)
    if gray and pixels.ndim == 3:
        pixels = pixels.mean(2).astype(np.uint8)
    small = max(pixels.shape[:2]) <= LARGE
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if small else "antialiased"
    )
    axes.set_axis_off()


def caption(shot: Shot) -> str:
    """Class, a wrong answer, and MACs in two lines; drawn with parse_math=False, for a dollar sign is no formula."""
    answer = "" if shot.right else f", took for {short(shot.answer, 9)}"
    return f"{short(shot.label, 12)}{answer}\n{macs(shot.macs)}"


def caption_colour(shot: Shot) -> str:
    return INK if shot.right else WRONG


def shot_html(shot: Shot) -> str:
    """The image and the text below it, for a page."""
    answer = "" if shot.right else f"<br><span class=wrong>took for {escape(shot.answer)}</span>"
    fine = ' class="fine"' if pixels_of(shot.png).shape[0] > LARGE else ""
    words = f"class {shot.label}, answered {shot.answer}\n{macs(shot.macs)}"
    return (
        f'<figure {tip(words)}><img{fine} alt="" src="data:image/png;base64,{shot.png}">'
        f"{escape(shot.label)}{answer}<br>{macs(shot.macs)}</figure>"
    )
