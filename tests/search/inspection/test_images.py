"""The easiest and the hardest images."""

from __future__ import annotations

from search.inspection import images
from search.inspection.shots import pixels_of
from tests.search.inspection.nets import found_of
from trainers.data.splits import ImageData


def test_extremes_are_the_cheapest_and_dearest_images(data: ImageData) -> None:
    found = found_of("joint", data)
    extremes = found.part(images.PICTURE)
    assert extremes is not None
    cheap, expensive = (
        [shot.macs for shot in part] for part in (extremes.cheapest, extremes.dearest)
    )
    assert cheap == sorted(cheap)
    assert expensive == sorted(expensive, reverse=True)
    assert cheap[-1] <= found.macs_mean <= expensive[0]
    assert pixels_of(extremes.cheapest[0].png).shape == (8, 8)
