"""What a layer puts out, by its place."""

from __future__ import annotations

from search.inspection.embedding import Embedding, between_places


def test_points_that_lie_by_place_are_found_to_do_so() -> None:
    apart = Embedding(0, "PCA", [[(0.0, 0.0), (0.0, 0.0)], [(1.0, 0.0), (1.0, 0.0)]], 1.0)
    alike = Embedding(0, "PCA", [[(0.0, 0.0), (1.0, 0.0)], [(0.0, 0.0), (1.0, 0.0)]], 1.0)
    assert between_places(apart) == 1
    assert between_places(alike) == 0
