"""What every method of ``conf/peft/`` must hold on quantised weights: it works as on plain ones, or says why not."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from tests.method_files import METHODS, tiers

from peftlab.errors import ConfigError
from peftlab.methods.head import head_of
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import MethodContext
from peftlab.methods.targets import linear_layers
from peftlab.models.quantizing import QuantizedLinear, dequantize, quantize, quantized_parameters

REFUSED = {"full", "glora", "olora", "osf", "pissa", "sliced", "top_layers"}
WORKS = [name for name in METHODS if name not in REFUSED]
TOKENS = torch.arange(5, 35).reshape(3, 10)
INPUTS = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}


@pytest.fixture(scope="module", params=["nf4", pytest.param("int8", marks=pytest.mark.slow)])
def quantized(request):
    """A small BERT with quantised layers, and what a method may know about it."""
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 128}
    torch.manual_seed(1)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=40, num_labels=3, **sizes))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # which begin as zero, unlike pretrained ones
            torch.nn.init.normal_(parameter, std=0.1)
    head = head_of(model)
    quantize(model, request.param, linear_layers(model, head))
    return model.eval(), MethodContext(head, "SEQ_CLS", "made here", "text")


def passed(method, model, context):
    """The model with the method, its trained weights moved from their start, its logits and its gradients."""
    torch.manual_seed(3)
    model = method.apply(model, context).eval()
    method.calibrate(model, [INPUTS])
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    logits = model(**INPUTS).logits
    logits.square().mean().backward()
    return model, logits, {name: parameter.grad for name, parameter in trained.items()}


@pytest.mark.one_in(5, "exhaustive")
@pytest.mark.parametrize("name", tiers(WORKS))
def test_it_trains_as_on_plain_layers_that_hold_the_rounded_weights(name, quantized, spec):
    model, context = quantized
    method = spec(f"peft={name}").peft
    assert method.rewrites is None
    plain = copy.deepcopy(model)
    dequantize(plain)
    tuned, logits, gradients = passed(method, copy.deepcopy(model), context)
    other, expected, expected_gradients = passed(method, plain, context)
    torch.testing.assert_close(logits, expected)
    assert gradients.keys() == expected_gradients.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[key])
    assert method.count(tuned) == method.count(other)
    assert quantized_parameters(tuned) == quantized_parameters(model)  # none has been replaced
    if method.mergeable:
        dequantize(tuned)
        assert not any(isinstance(module, QuantizedLinear) for module in tuned.modules())
        torch.testing.assert_close(method.merge(tuned)(**INPUTS).logits, expected, rtol=1e-3, atol=1e-4)


def test_what_rewrites_the_weights_is_refused(spec):
    for name in REFUSED:
        with pytest.raises(ConfigError, match=rf"model\.quantize=nf4: peft={name} needs .* full precision"):
            spec(f"peft={name}", "model.quantize=nf4")


@pytest.mark.slow
def test_what_may_be_quantised_does_not_write_to_the_weights(quantized, spec):
    """The ways to begin that the library offers beside those of the files."""
    model, context = quantized
    for beginning in LibraryMethod.initialisations:
        method = spec("peft=lora").peft
        method.init_lora_weights = beginning
        if beginning in ("olora", "pissa"):
            assert f"init_lora_weights={beginning}" in method.rewrites
            continue
        plain = copy.deepcopy(model)
        dequantize(plain)
        outputs = [passed(method, each, context)[1] for each in (copy.deepcopy(model), plain)]
        torch.testing.assert_close(*outputs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_gradient_checkpointing_changes_no_gradient_of_a_language_model(kind, language_model, spec):
    """Also where nothing below the first block is trained."""
    classes = {"llama": transformers.AutoModelForCausalLM, "t5": transformers.AutoModelForSeq2SeqLM}
    tasks = {"llama": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM"}
    gradients = []
    for checkpointing in (False, True):
        model = classes[kind].from_pretrained(language_model(kind))
        model.config.use_cache = False
        quantize(model, "nf4", linear_layers(model, ()))
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        torch.manual_seed(3)
        model = spec("peft=lora").peft.apply(model, MethodContext((), tasks[kind], "made here", "vocabulary"))
        model.train()(input_ids=TOKENS, labels=TOKENS).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
    torch.testing.assert_close(*gradients)
    assert all(gradient is not None for gradient in gradients[0])
