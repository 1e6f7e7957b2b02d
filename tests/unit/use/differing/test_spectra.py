"""Singular values against closed forms, and intruders that were planted."""

from __future__ import annotations

import pytest
import torch

from peftlab.use.differing import spectra
from peftlab.use.differing.spectra import effective_rank, intruders, singular_values, stable_rank


def orthonormal(rows, columns):
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.double))[0].float()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def weight():
    """A matrix whose singular values fall from 20 to 1, in known directions."""
    left, right = orthonormal(48, 20), orthonormal(64, 20)
    return left @ torch.diag(torch.arange(20.0, 0, -1)) @ right.T


def test_ranks_of_known_spectra():
    equal, one = torch.full((7,), 3.0), torch.tensor([2.0, 0, 0])
    assert stable_rank(equal) == pytest.approx(7)
    assert effective_rank(equal) == pytest.approx(7)
    assert stable_rank(one) == effective_rank(one) == 1
    two = torch.tensor([2.0, 1.0])
    assert stable_rank(two) == pytest.approx(5 / 4)
    assert effective_rank(two) == pytest.approx((3 / 2) ** (2 / 3) * 3 ** (1 / 3))


def test_a_scaling_has_no_intruder_and_a_planted_direction_is_one(weight):
    assert intruders(weight, weight).count == 0
    scaled = intruders(weight, 1.7 * weight)
    assert scaled.count == 0
    assert scaled.closest == pytest.approx(1, abs=1e-4)
    strange = torch.randn(48)
    planted = weight + 40 * torch.outer(strange / strange.norm(), orthonormal(64, 1)[:, 0])
    assert intruders(weight, planted).count == 1
    assert intruders(weight, planted, below=0.1).count == 0
    # a direction of the weight itself that only grows is none
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    grown = weight + 30 * torch.outer(left[:, 12], right[12])
    assert values[12] > 1
    assert intruders(weight, grown).count == 0


def test_a_large_matrix_is_judged_as_a_small_one(weight, monkeypatch):
    strange = torch.randn(48)
    planted = weight + 40 * torch.outer(strange / strange.norm(), orthonormal(64, 1)[:, 0])
    change = orthonormal(48, 4) @ orthonormal(64, 4).T
    exact = [intruders(weight, one) for one in (planted, 1.1 * weight)], singular_values(change)
    full = singular_values(torch.randn(48, 64))
    monkeypatch.setattr(spectra, "EXACT", 8)
    monkeypatch.setattr(spectra, "DRAWN", 24)
    for one, expected in zip((planted, 1.1 * weight), exact[0], strict=True):
        assert intruders(weight, one).count == expected.count
        assert intruders(weight, one).closest == pytest.approx(expected.closest, abs=1e-4)
    values = singular_values(change)
    assert len(values) == 24
    torch.testing.assert_close(values[:4], exact[1][:4])
    assert len(singular_values(torch.randn(48, 64))) == len(full)  # of full rank: a few would not hold its norm
