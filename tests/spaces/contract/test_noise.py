"""Gate noise: a function of seed, step, sample and unit, logistic, and of nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spaces.contract.noise import logistic_noise

# Found by inverting the generator: the first unit of these ids, at seed 0 and step 0, has all random bits 1, all 0.
ALL_ONES, ALL_ZEROS = 8254652958003329234, -5404708725711972331


def uniforms(noise: Tensor) -> Tensor:
    return torch.sigmoid(noise.double()).flatten().sort().values


def test_noise_is_logistic() -> None:
    u = uniforms(logistic_noise(1, 2, torch.arange(100_000), 3))
    n = len(u)
    steps = torch.arange(1, n + 1) / n
    distance = torch.maximum((steps - u).abs(), (u - steps + 1 / n).abs()).max().item()
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov, one false alarm in a thousand
    assert (
        abs(logistic_noise(1, 2, torch.arange(100_000), 3).std().item() - math.pi / math.sqrt(3))
        < 0.02
    )


@pytest.mark.parametrize("axis", ["ids", "steps", "seeds"])
def test_noise_is_uniform_along_each_key_alone(axis: str) -> None:
    counts = range(3000)
    if axis == "ids":
        noise = logistic_noise(0, 0, torch.arange(3000), 1)
    elif axis == "steps":
        noise = torch.cat([logistic_noise(0, step, torch.tensor([5]), 1) for step in counts])
    else:
        noise = torch.cat([logistic_noise(seed, 0, torch.tensor([5]), 1) for seed in counts])
    u = uniforms(noise)
    assert (torch.arange(1, 3001) / 3000 - u).abs().max().item() < 1.95 / math.sqrt(3000)


def test_a_sample_keeps_its_noise_wherever_it_stands() -> None:
    ids = torch.tensor([5, 0, 9, 1234567, 2])
    order = torch.tensor([4, 2, 0, 1, 3])
    noise = logistic_noise(7, 3, ids, 4)
    assert torch.equal(logistic_noise(7, 3, ids[order], 4), noise[order])
    assert torch.equal(logistic_noise(7, 3, ids[1:2], 4), noise[1:2])


def test_a_unit_keeps_its_noise_when_there_are_more_units() -> None:
    ids = torch.arange(6)
    assert torch.equal(logistic_noise(7, 3, ids, 9)[:, :4], logistic_noise(7, 3, ids, 4))


@pytest.mark.parametrize("other", [(8, 3), (7, 4), (3, 7), (-7, 3)])
def test_another_seed_or_step_gives_other_noise(other: tuple[int, int]) -> None:
    ids = torch.arange(50)
    assert not (logistic_noise(*other, ids, 4) == logistic_noise(7, 3, ids, 4)).any()


def test_units_samples_and_steps_are_uncorrelated() -> None:
    n = 40_000
    ids = torch.arange(n)
    columns = torch.cat([logistic_noise(1, step, ids, 4) for step in (0, 1)], dim=1)
    columns = torch.cat([columns, columns.roll(1, 0)], dim=1)
    correlation = torch.corrcoef(columns.T.double()) - torch.eye(16, dtype=torch.float64)
    assert correlation.abs().max().item() < 5 / math.sqrt(n)


def test_two_units_are_jointly_uniform() -> None:
    u = torch.sigmoid(logistic_noise(2, 0, torch.arange(64_000), 2).double())
    cells = (u * 8).floor().clamp(max=7).long()
    counts = torch.bincount(cells[:, 0] * 8 + cells[:, 1], minlength=64).double()
    chi_square = ((counts - 1000) ** 2 / 1000).sum().item()
    assert chi_square < 63 + 4 * math.sqrt(2 * 63)


def test_the_largest_and_smallest_draws_are_finite_and_opposite() -> None:
    largest, smallest = logistic_noise(0, 0, torch.tensor([ALL_ONES, ALL_ZEROS]), 1)[:, 0].tolist()
    assert largest == pytest.approx(math.log(2**24 - 1), rel=1e-6)
    assert smallest == pytest.approx(-largest, rel=1e-6)


def test_noise_is_float32_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    assert logistic_noise(0, 0, torch.arange(2), 3).dtype == torch.float32
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("seed", [0, 2**63, -1, 2**64 + 5])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert logistic_noise(seed, 0, torch.arange(3), 2).isfinite().all()
