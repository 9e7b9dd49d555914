"""What layers do at other places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from search.inspection import embedding, layer_moves
from search.inspection.layer_places import layer_places
from spaces.contract.policies import AlwaysOn
from tests.search.inspection.nets import VIT, found_of, network
from trainers.data.splits import ImageData


def test_every_image_sees_every_layer_at_every_place(data: ImageData) -> None:
    inspection = found_of("shuffled", data)
    found, embedded = inspection.part(layer_moves.PICTURE), inspection.part(embedding.PICTURE)
    assert found is not None
    counts, means = np.array(found.counts), np.array(found.means)
    assert counts.shape[:2] == (3, 3)
    assert found.images == 16
    assert (abs(counts.sum(2) - 16) <= 1).all(), "the rarest changes lie beyond the axis"
    assert means.mean(1) == pytest.approx(np.ones(3), abs=1e-3)
    assert embedded is not None
    assert [len(points) for points in embedded.points] == [16] * 3


def test_a_change_is_the_norm_of_what_the_layer_adds_to_the_class_token(data: ImageData) -> None:
    net = network("shuffled_vit", **(VIT | {"layers": 2}))
    pixels = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    changes: dict[int, list[float]] = {0: [], 1: []}
    with torch.inference_mode():
        places = layer_places(net, pixels)
        for order in ((0, 1), (1, 0)):
            u = net.stem(pixels)
            for layer in order:
                after = net.layers[layer](u)
                changes[layer].append(float((after - u)[:, 0].norm()))
                u = after
        assert torch.equal(net(pixels, AlwaysOn()).logits_BC, net(pixels).logits_BC)
    assert places is not None
    found = layer_moves.layer_moves(places)
    assert found.norms == pytest.approx([np.mean(changes[0]), np.mean(changes[1])], rel=1e-3)
    assert found.means[0] == pytest.approx(np.array(changes[0]) / np.mean(changes[0]), rel=1e-3)
    assert found.means[1] == pytest.approx(
        np.array(changes[1])[::-1] / np.mean(changes[1]), rel=1e-3
    )


def test_a_network_that_was_not_trained_to_move_layers_is_shown_to_compare_with() -> None:
    pixels = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        places = layer_places(
            network("shuffled_vit", **(VIT | {"order_train": "identity"})), pixels
        )
        gated = layer_places(network("skip_vit", **(VIT | {"oracle": "cls"})), pixels)
    assert gated is None
    assert places is not None
    moves = layer_moves.layer_moves(places)
    assert "not trained" in layer_moves.headline(moves, 16).about
    embedded = embedding.embedding(places, umap=False)
    assert embedded is not None
    assert "not trained" in embedding.headline(embedded, 16).about
