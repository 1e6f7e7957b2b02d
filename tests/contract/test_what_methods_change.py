"""What `peftlab diff` says of every method of ``conf/peft/``. A new file there is tested without a change here."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from tests.method_files import METHODS, tiers
from tests.tiny_models import DECODERS

from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.method import MethodContext
from peftlab.tasks.batch import Batch
from peftlab.tasks.networks.heads import CAUSAL_LM, SEQ2SEQ_LM, model_class
from peftlab.use.differing.passes import Layer, observed
from peftlab.use.differing.representations import Comparison, Insertions
from peftlab.use.differing.weights import cut_alike, tuned_weights, weight_changes

ROTATES = {"oft": "rotates_inputs", "hra": "rotates_inputs"}
SCALES = {"ia3": ("scales_outputs", "scales_inputs")}
"""Methods that do nothing else to a matrix."""
ONLY_VECTORS = {"bitfit", "beft", "ln_tuning"}


def batch_of(ids, mask, decoder_ids=None):
    inputs = {"input_ids": ids, "attention_mask": mask}
    targets = {}
    if decoder_ids is not None:
        inputs["decoder_input_ids"] = targets["labels"] = decoder_ids
    rows = torch.arange(len(ids))
    return Batch(inputs, targets, torch.ones(len(ids)).double(), rows, [None] * len(ids), int(mask.sum()))


def trained(model, method, batch):
    """Move what the method trains, as a training would."""
    torch.manual_seed(1)
    method.calibrate(model, [batch.inputs])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def task(spec):
    task = spec("task=ner").task
    task.learn_labels({"train": []}, ["LOC", "PER"])
    return task


@pytest.fixture(scope="module")
def batch():
    mask = torch.ones(6, 9, dtype=torch.long)
    mask[2:, 6:] = 0
    return batch_of(torch.randint(5, 40, (6, 9), generator=torch.Generator().manual_seed(0)), mask)


def compared(task, base, model, batch):
    """Return the changes of the blocks, and what the method inserts."""
    comparison, insertions = Comparison(task, 6), Insertions()
    passes = [observed(one, batch) for one in (base, model)]
    comparison.add(*passes, batch)
    insertions.add(passes[1])
    return comparison.layers(), insertions


@pytest.mark.one_in(5, "slow")
@pytest.mark.parametrize("name", tiers(METHODS))
def test_every_method_shows_what_it_changes_or_inserts(name, spec, backbones, pretrained, task, batch):
    base = backbones(0, task)
    method, head = spec(f"peft={name}").peft, head_of(base)
    context = MethodContext(head, task.head.task_type, pretrained.origin, task.head.outputs)
    torch.manual_seed(0)
    model = trained(method.apply(copy.deepcopy(base), context), method, batch)
    base = cut_alike(base, method, context)
    layers, insertions = compared(task, base, model, batch)
    blocks = range(base.config.num_hidden_layers)
    assert [(layer.stack, layer.block) for layer in layers] == [("bert.encoder.layer", block) for block in blocks]
    assert all(math.isfinite(layer.cka) and 0 <= layer.attention <= 1 for layer in layers)
    assert any(layer.moved > 1e-6 for layer in layers) == (name != "head")

    weights, reason = tuned_weights(model, method)
    changes = weight_changes(base, weights, head, 10, 0.5)
    assert (reason is None) == method.mergeable
    if reason is not None:
        assert method.name in reason
    assert not any(is_of_head(one.name, head) for one in (*changes.matrices, *changes.vectors))
    own = [name for name, _ in base.named_parameters() if not is_of_head(name, head)]
    assert len(changes.matrices) + len(changes.vectors) + changes.unchanged == len(own)
    inserts = [*insertions.added().values(), *insertions.to_virtual().values()]
    assert all(0 < value < 100 for value in inserts)
    assert bool(changes.matrices or changes.vectors or inserts) == (name != "head")
    assert bool(insertions.to_virtual()) == (method.virtual_tokens > 0)
    assert bool(inserts) or method.mergeable
    for one in changes.matrices:
        after = weights[one.name].detach()
        before = base.get_parameter(one.name).detach()
        assert one.relative == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
        assert name not in ONLY_VECTORS
        if name in ROTATES:
            assert getattr(one, ROTATES[name]) == pytest.approx(1, abs=0.02)
            assert one.angle > 0.1
        if name in SCALES:
            assert max(getattr(one, form) for form in SCALES[name]) == pytest.approx(1, abs=1e-4)


LANGUAGE_MODELS = [("lora", "llama"), ("prompt_tuning", "llama"), ("prefix_tuning", "t5"), ("houlsby", "t5")]
LANGUAGE_MODELS += [("lora", "gpt2"), ("prefix_tuning", "llama"), ("prompt_tuning", "t5"), ("full", "bart")]
LANGUAGE_MODELS += [("lora", "qwen3"), ("prefix_tuning", "gemma3"), ("lora", "t5")]


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize(("name", "kind"), LANGUAGE_MODELS)
def test_models_that_write(name, kind, spec, language_model, task, batch):
    head = CAUSAL_LM if kind in DECODERS else SEQ2SEQ_LM
    base = model_class(head).from_pretrained(language_model(kind), attn_implementation="sdpa").eval()
    method = spec(f"peft={name}").peft
    torch.manual_seed(0)
    context = MethodContext((), head.task_type, "made here", head.outputs)
    model = trained(method.apply(copy.deepcopy(base), context), method, batch)
    if kind not in DECODERS:
        labels = torch.arange(10, 34).reshape(6, 4).clone()
        labels[0, 3:] = -100
        batch = batch_of(batch.inputs["input_ids"], batch.inputs["attention_mask"], labels)
        batch.inputs["decoder_input_ids"] = labels.clamp(min=0)
    layers, insertions = compared(task, base, model, batch)
    stacks = dict.fromkeys(layer.stack for layer in layers)
    assert len(layers) == (2 if kind in DECODERS else 4)
    assert all(layer.attention is not None and 0 <= layer.attention <= 1 for layer in layers)
    decodes = [layer.crossed is not None for layer in layers]
    assert decodes == ([False] * 2 if kind in DECODERS else [False, False, True, True])
    assert layers[-1].moved > 0
    assert len(stacks) == len(layers) // 2
    assert bool(insertions.to_virtual()) == (method.virtual_tokens > 0)
    assert bool(insertions.added()) == (name == "houlsby")
    weights, _ = tuned_weights(model, method)
    changed = weight_changes(base, weights, (), 10, 0.5).matrices
    assert bool(changed) == (name in ("lora", "full"))
    for one in changed:
        before = base.get_parameter(one.name)
        assert one.shape == (tuple(before.shape[::-1]) if "c_" in one.name else tuple(before.shape))
        if name == "lora":
            assert one.stable_rank <= one.effective_rank <= 16.01


def test_hidden_states_are_those_that_the_model_itself_returns(language_model, batch):
    """For transformers shows them too, if asked; the last ones only after the final normalisation."""
    for kind, head in (("llama", CAUSAL_LM), ("gpt2", CAUSAL_LM), ("t5", SEQ2SEQ_LM)):
        model = model_class(head).from_pretrained(language_model(kind), attn_implementation="eager").eval()
        inputs = dict(batch.inputs)
        if kind == "t5":
            inputs["decoder_input_ids"] = batch.inputs["input_ids"]
        seen = observed(model, batch_of(*list(inputs.values())))
        with torch.inference_mode():
            outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
        sides = [""] if kind != "t5" else ["encoder_", "decoder_"]
        states = [outputs[f"{side}hidden_states"][1] for side in sides]
        attention = [weights for side in sides for weights in outputs[f"{side}attentions"]]
        first = [layer for layer in seen.states if layer.block == 0]
        for layer, expected in zip(first, states, strict=True):
            torch.testing.assert_close(seen.states[layer], expected)
        own = [weights for place, weights in seen.attention.items() if not place.crosses]
        for weights, expected in zip(own, attention, strict=True):
            torch.testing.assert_close(weights, expected)


def test_blocks_that_are_used_again_count_each_time(batch):
    from transformers import AlbertConfig, AlbertModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "embedding_size": 8}
    model = AlbertModel(AlbertConfig(vocab_size=64, num_hidden_layers=3, **sizes)).eval()
    seen = observed(model, batch)
    assert [layer.block for layer in seen.states] == [0, 1, 2]
    assert list(seen.states) == [place.layer for place in seen.attention]
    assert isinstance(next(iter(seen.states)), Layer)


def adapted(name, spec, base, pretrained, task, *options):
    method, head = spec(f"peft={name}", *options).peft, head_of(base)
    context = MethodContext(head, task.head.task_type, pretrained.origin, task.head.outputs)
    torch.manual_seed(0)
    return method.apply(copy.deepcopy(base), context).eval(), method, head


def test_updates_are_products_and_intruders_those_of_the_library(spec, backbones, pretrained, task, batch):
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    base = backbones(0, task)
    model, method, head = adapted("lora", spec, base, pretrained, task, "peft.r=4", "peft.lora_alpha=12")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    inside = model.get_base_model()
    layers = {name: one for name, one in inside.named_modules() if hasattr(one, "lora_A")}
    products = {
        f"{name}.weight": 12 / 4 * one.lora_B["default"].weight.detach() @ one.lora_A["default"].weight.detach()
        for name, one in layers.items()
    }
    lines = []
    reduce_intruder_dimension(copy.deepcopy(model), top_k=5, logging_sink=lines.append)
    matches = [re.search(r"Intruders: (\d+)", line) for line in lines[: len(layers)]]
    counts = [int(match[1]) if match else 0 for match in matches]
    changes = weight_changes(base, tuned_weights(model, method)[0], head, 5, 0.5).matrices
    assert {one.name for one in changes} == products.keys()
    for one in changes:
        product = products[one.name]
        assert one.relative == pytest.approx(float(product.norm() / base.get_parameter(one.name).norm()), rel=1e-4)
        assert one.effective_rank <= 4.01
    assert [one.intruders for one in changes] == counts
    assert sum(counts) > 0


@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_what_is_taken_out_of_the_frozen_weights_is_no_change(name, spec, backbones, pretrained, task):
    base = backbones(0, task)
    model, method, head = adapted(name, spec, base, pretrained, task)
    changes = weight_changes(base, tuned_weights(model, method)[0], head, 5, 0.5).matrices
    assert all(one.relative < 1e-5 for one in changes)
