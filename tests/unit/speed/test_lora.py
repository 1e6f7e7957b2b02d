"""The fused LoRA forward against the library's own."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from torch import nn

from peftlab.speed.lora import FusedLoraLinear, fuse_lora


def pair(bias=True, **options):
    """Return the same two LoRA layers twice, with a random update: the library's and a fused one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 24, bias=bias), nn.GELU(), nn.Linear(24, 8, bias=bias))
    config = peft.LoraConfig(**{"target_modules": ["0", "2"], "r": 4, "lora_alpha": 12, **options})
    plain = peft.get_peft_model(model, config)
    for name, parameter in plain.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    fused = copy.deepcopy(plain)
    return plain, fused, fuse_lora(fused)


def outcome(model, x, autocast=False):
    """Return the output and every gradient, that of the input first."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
        out = model(x)
    out.float().square().mean().backward()
    return [out.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


X = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(3, 5, 12), (15, 12)])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"use_rslora": True}, {"lora_alpha": 4}])
def test_output_and_gradients_are_the_librarys(options, shape):
    plain, fused, layers = pair(**options)
    assert layers == 2
    for ours, theirs in zip(outcome(fused, X.view(shape)), outcome(plain, X.view(shape)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_under_autocast_it_is_as_near_to_fp32_as_the_library():
    plain, fused, _ = pair()
    exact = outcome(plain, X)
    for p in plain.parameters():
        p.grad = None
    theirs, ours = outcome(plain, X, autocast=True), outcome(fused, X, autocast=True)
    assert [each.dtype for each in ours] == [each.dtype for each in theirs]
    errors = [
        [float((value - truth).norm() / truth.norm()) for value, truth in zip(values, exact, strict=True)]
        for values in (ours, theirs)
    ]
    assert max(errors[0]) < 0.01
    assert sum(errors[0]) < 1.1 * sum(errors[1])


def test_a_frozen_input_gets_no_gradient():
    plain, fused, _ = pair()
    for model in (plain, fused):
        model(X).sum().backward()
    for ours, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    ("options", "layers"),
    [({"lora_dropout": 0.1}, 0), ({"use_dora": True}, 0), ({"lora_bias": True}, 0), ({"target_modules": ["0"]}, 1)],
)
def test_only_plain_layers_are_fused(options, layers):
    assert pair(**options)[2] == layers


def test_a_trainable_base_keeps_its_gradient():
    torch.manual_seed(0)
    model = peft.get_peft_model(nn.Sequential(nn.Linear(4, 4)), peft.LoraConfig(target_modules=["0"], bias="all"))
    assert fuse_lora(model) == 0


def test_names_and_merging_stay_the_librarys():
    plain, fused, _ = pair()
    assert list(fused.state_dict()) == list(plain.state_dict())
    assert any(isinstance(module, FusedLoraLinear) for module in fused.modules())
    before = fused(X)
    torch.testing.assert_close(fused.merge_and_unload()(X), before, rtol=1e-5, atol=1e-5)


def test_a_disabled_or_merged_adapter_is_left_to_the_library():
    plain, fused, _ = pair()
    with fused.disable_adapter(), plain.disable_adapter():
        assert torch.equal(fused(X), plain(X))
    fused.merge_adapter()
    plain.merge_adapter()
    assert torch.equal(fused(X), plain(X))


@pytest.mark.slow
def test_the_gradient_is_right():
    """Against finite differences, in double precision."""
    _, fused, _ = pair()
    fused.double()
    layer = fused.base_model.model[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = X.double().requires_grad_()

    def forward(x, a, b):
        from peftlab.speed.lora import _LoraLinear

        base = layer.get_base_layer()
        return _LoraLinear.apply(x, base.weight, base.bias, a, b, layer.scaling["default"])

    assert torch.autograd.gradcheck(forward, (x, a, b))


def test_what_acts_around_the_base_layer_acts_on():
    seen = []
    first = nn.Linear(12, 24)
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))  # as a parallel adapter has one
    model = peft.get_peft_model(nn.Sequential(first), peft.LoraConfig(target_modules=["0"]))
    assert fuse_lora(model) == 0
    model(X)
    assert seen == [X.shape]
