from __future__ import annotations

import copy

import bitsandbytes
import pytest
import torch
from torch import nn

from peftlab.errors import ConfigError
from peftlab.methods.targets import linear_layers
from peftlab.models.quantizing import (
    CLASSES,
    Int8Linear,
    NF4Linear,
    QuantizedLinear,
    check_installed,
    dequantize,
    quantize,
    quantized_parameters,
)
from peftlab.training.footprint import of_parameters

KINDS = sorted(CLASSES)
RELATIVE_ERROR = {"nf4": 0.092, "int8": 0.0075}
"""The mean error of normally distributed weights, over their mean size."""


def layer(inputs=128, outputs=64, bias=True):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


@pytest.fixture(scope="module")
def model(language_model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(language_model("qwen3")).requires_grad_(False)


def pairs(model, kind):
    """The model quantised, and with plain layers that hold the same rounded weights."""
    quantized = copy.deepcopy(model)
    quantize(quantized, kind, linear_layers(quantized, ()))
    plain = copy.deepcopy(quantized)
    dequantize(plain)
    return quantized, plain


@pytest.mark.parametrize("kind", KINDS)
class TestQuantizedLinear:
    def test_its_weight_is_rounded(self, kind):
        plain = nn.Linear(256, 256)
        nn.init.normal_(plain.weight, generator=torch.Generator().manual_seed(0))
        error = (CLASSES[kind](plain).weight - plain.weight).abs().mean() / plain.weight.abs().mean()
        assert error.item() == pytest.approx(RELATIVE_ERROR[kind], rel=0.05)

    def test_it_computes_as_a_plain_layer_with_the_rounded_weight(self, kind):
        quantized = CLASSES[kind](layer())
        plain = layer()
        plain.weight = nn.Parameter(quantized.weight, requires_grad=False)
        for dtype in (None, torch.bfloat16):
            for shape in ((3, 5, 128), (128,), (2, 128)):
                x, other = (torch.ones(shape).mul_(0.3).requires_grad_() for _ in range(2))
                with torch.autocast("cpu", dtype, enabled=dtype is not None):
                    outputs = quantized(x), plain(other)
                assert torch.equal(*outputs)
                for output in outputs:
                    output.float().square().sum().backward()
                torch.testing.assert_close(x.grad, other.grad)
                torch.testing.assert_close(quantized.bias.grad, plain.bias.grad)
                quantized.bias.grad = plain.bias.grad = None

    def test_its_output_may_be_changed_in_place(self, kind):
        quantized = CLASSES[kind](layer())
        output = quantized(torch.ones(2, 3, 128, requires_grad=True))
        output += 1
        output.sum().backward()

    def test_it_keeps_no_weight_between_the_passes(self, kind):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            CLASSES[kind](layer())(torch.ones(2, 128, requires_grad=True))
        assert not any(tensor.shape == (64, 128) for tensor in kept)

    def test_it_has_no_weight_to_train_and_none_in_its_state(self, kind):
        quantized = CLASSES[kind](layer())
        assert [name for name, _ in quantized.named_parameters()] == ["bias"] == list(quantized.state_dict())
        with pytest.raises(KeyError, match="weight"):
            quantized.weight = nn.Parameter(torch.zeros(64, 128))

    @pytest.mark.slow
    def test_odd_sizes_and_layers_without_bias(self, kind):
        quantized = CLASSES[kind](layer(7, 3, bias=False))
        assert quantized.weight.shape == (3, 7)
        assert quantized(torch.ones(2, 7)).shape == (2, 3)


def test_the_bits_are_those_of_the_library():
    plain = layer()
    theirs = bitsandbytes.nn.Params4bit(plain.weight.detach().clone(), quant_type="nf4", compress_statistics=False)
    theirs = theirs.to("cpu")
    own = NF4Linear(plain)
    assert torch.equal(own.packed, theirs.data)
    assert torch.equal(own.scales, theirs.quant_state.absmax)
    eight = bitsandbytes.nn.Int8Params(plain.weight.detach().clone(), has_fp16_weights=False, requires_grad=False).to(
        "cpu"
    )
    assert torch.equal(Int8Linear(plain).packed, eight.data)


@pytest.mark.parametrize("kind", KINDS)
class TestQuantize:
    def test_embeddings_norms_and_the_output_layer_stay(self, kind, model):
        quantized, _ = pairs(model, kind)
        names = {name for name, module in quantized.named_modules() if isinstance(module, QuantizedLinear)}
        assert len(names) == 2 * 7
        assert all(".layers." in name for name in names)
        for name, parameter in quantized.named_parameters():
            assert torch.equal(parameter, model.get_parameter(name)), name

    def test_the_model_computes_with_the_rounded_weights(self, kind, model):
        quantized, plain = pairs(model, kind)
        tokens = torch.arange(5, 25).view(2, 10)
        logits = [each(tokens).logits for each in (quantized, plain, model)]
        assert torch.equal(logits[0], logits[1])
        assert 0 < (logits[0] - logits[2]).abs().max() < (0.5 if kind == "nf4" else 0.05)

    def test_the_bits_are_always_the_same(self, kind, model):
        first, second = (dict(pairs(model, kind)[0].named_buffers()) for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_weights_are_counted_as_before_and_take_fewer_bytes(self, kind, model):
        quantized, plain = pairs(model, kind)
        count = sum(p.numel() for p in plain.parameters())
        assert sum(p.numel() for p in quantized.parameters()) + quantized_parameters(quantized) == count
        saved = of_parameters(plain)["weights_gib"] - of_parameters(quantized)["weights_gib"]
        bits = 32 - {"nf4": 4.5, "int8": 8.0}[kind]
        assert saved * 2**33 == pytest.approx(bits * quantized_parameters(quantized), rel=0.05)


def test_none_changes_nothing(model):
    same = copy.deepcopy(model)
    quantize(same, "none", linear_layers(same, ()))
    assert not quantized_parameters(same)


def test_layers_of_another_kind_are_refused(model, language_model):
    from transformers import AutoModelForCausalLM

    of_convolutions = AutoModelForCausalLM.from_pretrained(language_model("gpt2"))
    for other, names in ((of_convolutions, linear_layers(of_convolutions, ())), (model, [])):
        with pytest.raises(ConfigError, match=rf"model\.quantize=nf4: the blocks of {type(other).__name__} are not"):
            quantize(other, "nf4", names)


def test_without_the_package_it_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_installed("none")
    with pytest.raises(ConfigError, match=r"model\.quantize=int8: .* pip install \"peftlab\[quantize\]\""):
        check_installed("int8")
