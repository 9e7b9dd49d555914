"""Where exits look."""

from __future__ import annotations

from search.inspection import attention
from search.inspection.shots import pixels_of
from tests.search.inspection.nets import exits, found_of
from trainers.data.splits import ImageData


def test_attention_maps_are_those_of_the_exits_and_no_hook_stays(data: ImageData) -> None:
    net, found = exits(), found_of("exits", data).part(attention.PICTURE)
    assert found is not None
    assert [one.exit for one in found.exits] == ["exit0", "exit1", "exit2"]
    assert [pixels_of(one.maps[0]).shape for one in found.exits] == [(8, 8), (4, 4), (2, 2)]
    for one in found.exits:
        assert 0 <= one.low <= one.high <= 1, "a mean of sigmoids"
        assert len(one.maps) == len(found.samples)
    assert not any(module._forward_hooks for module in net.modules())
