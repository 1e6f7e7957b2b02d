from __future__ import annotations

import numpy as np
import pytest
import torch

from peftlab.privacy.clipping import ClippedSum, gaussian, generator_of
from peftlab.privacy.guarantee import Guarantee

SHAPES = [(3, 4), (5,)]


def gradients(examples, seed=0, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(examples, *shape, generator=draw) for shape in SHAPES]


def clipped_by_hand(of_units, norm):
    total = [np.zeros(shape) for shape in SHAPES]
    for unit in of_units:
        length = np.sqrt(sum((own**2).sum() for own in unit))
        for place, own in enumerate(unit):
            total[place] += own * min(1, norm / length)
    return total


@pytest.mark.parametrize("units", [[0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 2]])
@pytest.mark.parametrize("cuts", [[6], [2, 4], [1, 1, 1, 1, 1, 1]])
def test_each_unit_is_scaled_down_by_the_norm_of_its_whole_gradient(units, cuts):
    own = gradients(6)
    total, start = ClippedSum([torch.zeros(shape) for shape in SHAPES], 2.0), 0
    for cut in cuts:
        total.add([each[start : start + cut] for each in own], units[start : start + cut])
        start += cut
    total.close()
    of_units = [[each.numpy()[np.asarray(units) == unit].sum(0) for each in own] for unit in sorted(set(units))]
    expected = clipped_by_hand(of_units, 2.0)
    for found, wanted in zip(total.sums, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert total.count.units == len(set(units))


def test_short_gradients_stay_and_missing_ones_count_as_zero():
    own = gradients(4, scale=1e-3)
    total = ClippedSum([torch.zeros(shape) for shape in SHAPES], 1.0)
    total.add([own[0], None], range(4))
    total.close()
    torch.testing.assert_close(total.sums[0], own[0].sum(0))
    assert not total.sums[1].any()
    assert total.count.clipped == 0


def test_a_gradient_that_is_not_finite_is_left_out():
    own = gradients(3, scale=1e-3)
    own[0][1, 0, 0] = torch.nan
    own[1][1] = torch.inf
    total = ClippedSum([torch.zeros(shape) for shape in SHAPES], 1.0)
    total.add(own, range(3))
    total.close()
    torch.testing.assert_close(total.sums[1], own[1][[0, 2]].sum(0))
    assert total.count.not_finite == 1
    assert torch.isfinite(total.sums[0]).all()


def test_one_unit_changes_the_sum_by_at_most_the_norm():
    for seed in range(20):
        with_it, without = (ClippedSum([torch.zeros(shape) for shape in SHAPES], 0.7) for _ in range(2))
        own = gradients(5, seed, scale=10.0 ** (seed % 5 - 2))
        with_it.add(own, range(5))
        without.add([each[:4] for each in own], range(4))
        with_it.close(), without.close()
        change = sum(float((a - b).square().sum()) for a, b in zip(with_it.sums, without.sums, strict=True)) ** 0.5
        assert change <= 0.7 * (1 + 1e-4)


def test_the_noise_has_the_deviation_that_the_guarantee_says_and_no_step_repeats_it():
    guarantee = Guarantee(1.0, 1e-5, 2.0, 3.0, 0.1, 10, "example", 50, "")
    total = ClippedSum([torch.zeros(200, 500)], 3.0)
    (mean,) = total.noisy_mean(guarantee, generator_of(b"secret", 1))
    assert float(mean.std()) == pytest.approx(2.0 * 3.0 / 5.0, rel=0.02)
    assert abs(float(mean.mean())) < 0.02
    first = [gaussian(torch.zeros(4), 1.0, generator_of(*key)) for key in ((b"a", 1), (b"a", 2), (b"b", 1))]
    assert len({tuple(noise.tolist()) for noise in first}) == 3
    torch.testing.assert_close(gaussian(torch.zeros(4), 1.0, generator_of(b"a", 1)), first[0])
