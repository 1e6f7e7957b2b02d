"""Losses of deferred logits, and their gradients, are those of the full product, in chunks."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.tiny_models import DECODERS, ENCODER_DECODERS
from torch.nn import functional as F

from peftlab.seams.pytorch import DispatchMode, leaves
from peftlab.tasks.losses import token_losses as module
from peftlab.tasks.losses.token_losses import token_losses
from peftlab.tasks.outputs.deferred_logits import DeferredLogits, deferred_logits

VOCABULARY = 300
CHUNK = 13
"""Tokens."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", CHUNK * VOCABULARY)


def load(folder, kind, **settings):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto = AutoModelForCausalLM if kind in DECODERS else AutoModelForSeq2SeqLM
    return auto.from_pretrained(folder, config=AutoConfig.from_pretrained(folder, **settings)).eval()


def scaled(kind):
    """Return a tiny model of an architecture that scales its logits."""
    from transformers import CohereConfig, CohereForCausalLM, GraniteConfig, GraniteForCausalLM

    config, model, scale = {
        "cohere": (CohereConfig, CohereForCausalLM, {"logit_scale": 0.25}),
        "granite": (GraniteConfig, GraniteForCausalLM, {"logits_scaling": 8.0}),
    }[kind]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    return model(config(**sizes, **scale, num_key_value_heads=2, vocab_size=VOCABULARY)).eval()


@pytest.fixture
def models(language_model):
    """Return models by name: every tiny one, those that cap or scale logits, one with LoRA on the head."""
    kinds = [*DECODERS, *ENCODER_DECODERS]
    found = {kind: load(language_model(kind), kind) for kind in kinds}
    found["capped"] = load(language_model("gemma3"), "gemma3", final_logit_softcapping=2.0)
    found |= {kind: scaled(kind) for kind in ("cohere", "granite")}
    torch.nn.init.normal_(found["bart"].final_logits_bias)
    adapted = LoraConfig(target_modules=["lm_head", "q_proj"], init_lora_weights=False)
    found["lora"] = get_peft_model(load(language_model("qwen3"), "qwen3"), adapted).eval()
    return found


def inputs_and_labels(model):
    ids = torch.randint(4, 250, (3, 20), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :7] = labels[2] = -100
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {"use_cache": False}
    return {"input_ids": ids, **more}, labels


def losses_of(model, deferred, learnt=None, dtype=None):
    """Return the losses of the shifted labels, and the gradients of a weighted sum of them."""
    inputs, labels = inputs_and_labels(model)
    model.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        if deferred:
            with deferred_logits(model):
                logits = model(**inputs).logits
            assert isinstance(logits, DeferredLogits)
        else:
            logits = model(**inputs).logits
        losses = token_losses(logits[:, :-1], labels[:, 1:], learnt)
    (losses.sum(-1) * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    # what has no part in the loss has no gradient; and the biases of keys have one of 0 but for rounding
    kept = {name: weight.grad for name, weight in trained.items() if "k_proj.bias" not in name}
    return losses.detach(), torch.cat([grad.flatten() for grad in kept.values() if grad is not None])


@pytest.mark.slow
def test_losses_and_gradients_are_those_of_the_full_product(models):
    for name, model in models.items():
        for frozen in (False, True):
            if frozen:
                model.get_output_embeddings().requires_grad_(False)
            expected, its_gradient = losses_of(model, deferred=False)
            for learnt in (None, int((inputs_and_labels(model)[1][:, 1:] != -100).sum())):
                losses, gradient = losses_of(model, deferred=True, learnt=learnt)
                torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6, msg=name)
                assert (gradient - its_gradient).norm() < 1e-5 * its_gradient.norm(), (name, frozen, learnt)


def test_in_half_precision_they_are_as_near_as_it_allows(language_model):
    model = load(language_model("llama"), "llama")
    exact, _ = losses_of(model, deferred=False)
    for dtype in (torch.bfloat16, torch.float16):
        for frozen in (False, True):
            model.get_output_embeddings().requires_grad_(not frozen)
            losses, gradient = losses_of(model, deferred=True, dtype=dtype)
            full, full_gradient = losses_of(model, deferred=False, dtype=dtype)
            assert losses.dtype == torch.float32
            assert (losses - full).abs().max() <= (full - exact).abs().max()
            assert (gradient - full_gradient).norm() < 0.01 * full_gradient.norm()


def test_no_logits_of_more_than_a_chunk_exist(language_model):
    class Sizes(DispatchMode):
        most = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            shapes = [leaf.shape for leaf in leaves(made) if isinstance(leaf, torch.Tensor)]
            logits = [shape for shape in shapes if shape[-1:] == (vocabulary,) and shape != weight]
            Sizes.most = max([Sizes.most, *(shape[:-1].numel() for shape in logits)])
            return made

    model = load(language_model("llama"), "llama")
    vocabulary = model.config.vocab_size
    weight = (model.config.hidden_size, vocabulary)
    for frozen in (False, True):
        model.get_output_embeddings().requires_grad_(not frozen)
        with Sizes():
            losses_of(model, deferred=True)
        assert 0 < Sizes.most <= CHUNK * VOCABULARY // vocabulary
    with Sizes():
        losses_of(model, deferred=False)
    assert Sizes.most == 3 * 20


def test_what_else_is_asked_of_deferred_logits_is_asked_of_the_product(language_model):
    model = load(language_model("llama"), "llama")
    inputs, _ = inputs_and_labels(model)
    expected = model(**inputs).logits
    with deferred_logits(model):
        logits = model(**inputs).logits
    for ask in (
        lambda it: it.argmax(-1),
        lambda it: it.log_softmax(-1),
        lambda it: F.softmax(it, dim=-1),
        lambda it: torch.cat([it, it]),
        lambda it: it.flatten(0, 1).float(),
        lambda it: it[:, 1:-1].shape,
        lambda it: it[..., :10],
        lambda it: it[:, -1] * torch.arange(3.0).view(3, 1),
        lambda it: (2 * it.float() / 3 + 1)[0].full if isinstance(it, DeferredLogits) else (2 * it / 3 + 1)[0],
    ):
        torch.testing.assert_close(torch.as_tensor(ask(logits)), torch.as_tensor(ask(expected)))
    assert model(**inputs).logits.equal(expected)  # and afterwards the model is what it was


def test_a_loss_without_a_label_is_zero_and_has_no_gradient(language_model):
    model = load(language_model("llama"), "llama")
    inputs, labels = inputs_and_labels(model)
    with deferred_logits(model):
        losses = token_losses(model(**inputs).logits, torch.full_like(labels, -100), learnt=0)
    losses.sum().backward()
    assert not losses.any()
    assert not any(weight.grad.any() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.slow
def test_a_compiled_model_returns_the_logits(language_model):
    model = load(language_model("llama"), "llama")
    inputs, labels = inputs_and_labels(model)
    expected = token_losses(model(**inputs).logits, labels)
    model.compile(backend="eager")
    with deferred_logits(model):
        logits = model(**inputs).logits
    assert isinstance(logits, torch.Tensor)
    torch.testing.assert_close(token_losses(logits, labels), expected)
