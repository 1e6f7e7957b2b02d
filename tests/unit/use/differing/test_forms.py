"""Scalings and rotations are recognised, whatever method makes them."""

from __future__ import annotations

import pytest
import torch

from peftlab.use.differing import forms
from peftlab.use.differing.forms import form_of


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def rotation(size, degrees):
    """Return a rotation of each pair of coordinates by an angle."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.double))
    block = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    return torch.block_diag(*[block] * (size // 2)).float()


@pytest.mark.parametrize("shape", [(24, 24), (40, 24), (24, 40)])
def test_each_form_explains_its_own_change(shape):
    weight = torch.randn(shape)
    outputs, inputs = shape
    factors = 1 + 0.1 * torch.randn(outputs)
    scaled = form_of(weight, factors[:, None] * weight)
    assert scaled.scales_outputs == pytest.approx(1, abs=1e-6)
    assert scaled.factor == pytest.approx(float(factors.mean()), abs=1e-5)
    assert scaled.spread == pytest.approx(float(factors.std(unbiased=False)), abs=1e-5)
    assert scaled.angle == pytest.approx(0, abs=1e-3)
    assert scaled.scales_inputs < 0.5
    assert form_of(weight, weight * (1 + 0.1 * torch.randn(inputs))).scales_inputs == pytest.approx(1, abs=1e-6)
    turned = form_of(weight, weight @ rotation(inputs, 3.0))
    assert turned.rotates_inputs == pytest.approx(1, abs=1e-5)
    assert turned.angle == pytest.approx(3, abs=1e-4)
    assert turned.scales_outputs < 0.01
    assert form_of(weight, rotation(outputs, 3.0) @ weight).rotates_outputs == pytest.approx(1, abs=1e-5)


def test_of_a_small_random_change_a_rotation_explains_half():
    weight = torch.linalg.qr(torch.randn(64, 64))[0]
    form = form_of(weight, weight + 1e-4 * torch.randn(64, 64))
    assert form.rotates_inputs == pytest.approx(0.5, abs=0.03)
    assert form.rotates_outputs == pytest.approx(0.5, abs=0.03)


def test_what_is_too_large_or_zero_is_left_out(monkeypatch):
    weight = torch.randn(24, 24)
    weight[3] = 0
    changed = weight.clone()
    changed[3] = 1
    assert form_of(weight, changed).angle == pytest.approx(0, abs=1e-3)
    monkeypatch.setattr(forms, "MOST", 8)
    form = form_of(weight, weight @ rotation(24, 3.0))
    assert form.rotates_inputs is None
    assert form.angle == pytest.approx(3, abs=1e-4)
