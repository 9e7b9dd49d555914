"""AutoAugment's learned pairs of operations, drawn an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy
from torchvision.transforms import v2 as transforms

from tests.trainers.data.test_auto_augment import images
from trainers.data import auto_policy
from trainers.data.auto_policy import auto_augmented


def test_each_image_has_its_own_pair_and_equal_draws_give_equal_images() -> None:
    before = images(1).expand(64, -1, -1, -1)
    after = auto_augmented(before, np.random.default_rng(0))
    assert after.dtype == torch.uint8
    assert len(torch.unique(after.flatten(1), dim=0)) > 20
    assert torch.equal(after, auto_augmented(before, np.random.default_rng(0)))
    assert torch.equal(before, images(1).expand(64, -1, -1, -1)), "what was given is left alone"


def test_pairs_probabilities_and_strengths_are_those_of_torchvision() -> None:
    theirs: Any = transforms.AutoAugment(AutoAugmentPolicy.CIFAR10)
    first, second = auto_policy._halves()
    for index, pair in enumerate(theirs._policies):
        for half, (name, probability, level) in zip((first, second), pair, strict=True):
            assert half.names[index] == name
            assert half.probability_P[index] == probability
            strengths, signed = theirs._AUGMENTATION_SPACE[name]
            operation = auto_policy._operations()[name]
            assert operation.signed == signed
            if level is None:
                continue
            scale = {"Solarize": 255.0}.get(name, 1.0)
            wanted = scale * float(strengths(10, 331, 331)[level])  # translations: of 331 pixels
            assert operation.levels[half.level_P[index]] == pytest.approx(wanted)


def test_a_pair_that_is_certain_does_what_torchvision_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sure = auto_policy._Half(np.array(["Invert"]), np.ones(1), np.zeros(1, dtype=int))
    never = auto_policy._Half(np.array(["Equalize"]), np.zeros(1), np.zeros(1, dtype=int))
    monkeypatch.setattr(auto_policy, "_halves", lambda: (sure, never))
    before: Tensor = images()
    after = auto_augmented(before, np.random.default_rng(0))
    assert torch.equal(after, transforms.functional.invert(before))
