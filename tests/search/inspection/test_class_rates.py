"""Open rates of gates by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from search.inspection import class_rates
from search.inspection.forward_pass import Effort
from search.inspection.measures import inspect_network
from tests.search.inspection.nets import halves, joint
from trainers.data.augment import normalized
from trainers.data.splits import ImageData


def test_rates_by_class_agree_with_the_network_asked_directly(data: ImageData) -> None:
    net = joint()
    every = inspect_network(net, data, halves(), effort=Effort(images=10**6, side=8, umap=False))
    shown = every.part(class_rates.PICTURE)
    assert shown is not None
    images, labels = data.validation.pixels, data.validation.labels
    ((_, raw),) = images.batches([torch.arange(len(labels))], torch.device("cpu"))
    with torch.inference_mode():
        output = net.run(normalized(raw, data.mean, data.std), halves())
    by_name = {d.gate.name: d.open_BU.double() for d in output.decisions}
    name = data.classes[3]
    row = shown.rates[shown.classes.index(name)]
    here = labels == 3
    layer, inner = by_name["block1.layer"], by_name["block1.inner"]
    assert row[shown.gates.index("block1")] == pytest.approx(float(layer[here].mean()), abs=1e-3)
    computed = float((layer * inner)[here].mean())
    assert row[shown.gates.index("block1 filters")] == pytest.approx(computed, abs=1e-3)
    assert every.macs_mean == pytest.approx(float(output.macs_B.mean()))
    assert [np.mean(r) for r in shown.rates] == sorted(np.mean(r) for r in shown.rates)
