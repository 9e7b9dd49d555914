"""What a picture of an inspection is: its own part of the measures, and how that is measured, described and drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from search.inspection.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Part = TypeVar("Part")
Blank = Callable[[float], "Figure"]  # an empty figure of so many inches below its header


@dataclass(frozen=True)
class Headline:
    """A sentence with the finding, and how to read the picture."""

    title: str
    about: str


@dataclass(frozen=True, kw_only=True)
class Picture(Generic[Part]):
    """One picture. Its part is a frozen dataclass of numbers and short texts, kept as JSON with a trial's result.

    `key` says where the part is in a stored inspection: "moves.embedding" lies inside what "moves" holds, and is
    listed after it.
    """

    name: str  # of its file and of its section in the page
    link: str  # words of the page's link to it
    key: str
    part: type[Part]
    measure: Callable[[Subject], Part | None]  # None where it does not apply to the network
    headline: Callable[[Part, int], Headline]  # of the part and the number of images
    plot: Callable[[Part, Blank], Figure]
    content: Callable[[Part], str]  # HTML of its section, below the headline
