"""Cheap dropout is dropout: the right rate, independent elements, the right scale, the same for the same seed."""

import pytest
import torch
from torch import nn

from peftlab.speed.dropout import CheapDropout, cheapen, keep_mask


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_the_rate_is_right(p):
    torch.manual_seed(0)
    n = 1_000_001  # no multiple of four
    dropped = (keep_mask(torch.empty(n), p) == 0).double().mean().item()
    assert dropped == pytest.approx(p, abs=5 * (p * (1 - p) / n) ** 0.5)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 384])
def test_elements_are_independent(lag):
    torch.manual_seed(0)
    kept = (keep_mask(torch.empty(1_000_000), 0.3) != 0).double()
    both = (kept[:-lag] * kept[lag:]).mean().item()
    assert both == pytest.approx(0.7**2, abs=5e-3 / 2)


def test_what_is_kept_is_scaled_and_gets_the_same_gradient():
    torch.manual_seed(0)
    x = torch.ones(64, 33, requires_grad=True)
    y = CheapDropout(0.25)(x)
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3])
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_the_same_seed_gives_the_same_mask_and_the_next_draw_another():
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = CheapDropout(0.5)(x), CheapDropout(0.5)(x)
    torch.manual_seed(3)
    assert torch.equal(CheapDropout(0.5)(x), first)
    assert not torch.equal(first, second)


def test_evaluation_and_rate_zero_change_nothing():
    x = torch.randn(5, 5)
    assert CheapDropout(0.5).eval()(x) is x
    assert CheapDropout(0.0)(x) is x


def test_bf16_keeps_its_type():
    assert CheapDropout(0.1)(torch.ones(8, dtype=torch.bfloat16)).dtype is torch.bfloat16


def test_the_mask_goes_where_the_elements_are():
    """It is drawn on the host; a GPU's elements are not there."""
    assert CheapDropout(0.1)(torch.ones(8, device="meta")).device.type == "meta"


def test_every_dropout_of_a_model_is_replaced_with_its_rate():
    model = nn.Sequential(nn.Dropout(0.2), nn.ModuleDict({"default": nn.Dropout(0.3)}), nn.ModuleList([nn.Dropout()]))
    model.eval()
    assert cheapen(model) == 3
    rates = [m.p for m in model.modules() if type(m) is CheapDropout]
    assert rates == [0.2, 0.3, 0.5]
    assert not any(type(m) is nn.Dropout for m in model.modules())
    assert not any(m.training for m in model.modules())
