"""CKA and the divergence of attention against closed forms and direct formulas."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from peftlab.use.differing.similarity import cka, jensen_shannon


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def direct_hsic(first, second):
    """Song et al. 2012, equation 5, as it is written."""
    rows = len(first)
    one, other = first @ first.T, second @ second.T
    for kernel in (one, other):
        kernel.fill_diagonal_(0)
    ones = torch.ones(rows, dtype=torch.double)
    middle = (ones @ one @ ones) * (ones @ other @ ones) / ((rows - 1) * (rows - 2))
    return ((one @ other).trace() + middle - 2 / (rows - 2) * (ones @ one @ other @ ones)) / (rows * (rows - 3))


def direct_cka(first, second):
    first, second = first.double(), second.double()
    return float(direct_hsic(first, second) / (direct_hsic(first, first) * direct_hsic(second, second)).sqrt())


def test_it_is_the_unbiased_estimate_of_the_paper():
    first = torch.randn(30, 8) + 2
    second = first @ torch.randn(8, 5) + torch.randn(30, 5)
    assert cka(first, second) == pytest.approx(direct_cka(first, second), rel=1e-9)


def test_a_rotation_a_shift_and_a_factor_change_nothing():
    states = torch.randn(40, 64)
    turned = states @ torch.linalg.qr(torch.randn(64, 64))[0]
    assert cka(states, 3 * turned + 7) == pytest.approx(1, abs=1e-5)
    assert cka(states, states) == pytest.approx(1, abs=1e-9)


@pytest.mark.slow
def test_independent_representations_are_unlike_however_few_the_rows():
    estimates, plain = [], []
    for _ in range(200):
        first, second = torch.randn(20, 100), torch.randn(20, 100)
        estimates.append(cka(first, second))
        one, other = (rows - rows.mean(0) for rows in (first, second))
        norms = [(rows.T @ rows).norm() for rows in (one, other)]
        plain.append(float((one.T @ other).square().sum() / (norms[0] * norms[1])))
    assert sum(estimates) / 200 == pytest.approx(0, abs=0.02)
    assert sum(plain) / 200 > 0.8  # the estimate without the correction


def test_too_few_or_equal_rows_have_none():
    assert math.isnan(cka(torch.randn(3, 4), torch.randn(3, 4)))
    assert math.isnan(cka(torch.ones(9, 4), torch.randn(9, 4)))


def test_the_divergence_in_bits():
    one, other = torch.rand(2, 5, 7).softmax(-1)
    expected = [jensenshannon(a, b, base=2) ** 2 for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    torch.testing.assert_close(jensen_shannon(one, other), torch.tensor(expected, dtype=torch.float32))
    apart = torch.eye(2)
    assert jensen_shannon(apart, apart.flip(0)).tolist() == [1, 1]
    assert jensen_shannon(apart, apart).tolist() == [0, 0]
