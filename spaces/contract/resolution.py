"""The side of the images as a dimension of every family: a study whose file names several searches it.

It is no part of a family's own space, for it depends on the images, and a network of any family is built for the size
that its task says. Studies of one size have no such dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

from spaces.contract.space import Dimension

IMAGE_SIZE = "image_size"


def image_size_dimension(sides: Sequence[int]) -> Dimension:
    """The dimension of a study that searches these sides, in pixels, ascending. Unless told otherwise the largest."""
    return Dimension(
        kind="choice",
        name=IMAGE_SIZE,
        choices=tuple(sides),
        default=sides[-1],
        doc="side of the square that every image becomes, in pixels",
    )
