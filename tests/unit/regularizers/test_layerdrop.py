"""Blocks that are left out: how often, what passes through, and which models have no such blocks."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from peftlab.errors import ConfigError
from peftlab.regularizers.layerdrop import LayerDrop, form_of

SMALL = {"vocab_size": 8, "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 4}
NO_DROPOUT = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
IDS = torch.tensor([[1, 2, 3]])


def made(name, layers=4, **options):
    options = {**SMALL, **NO_DROPOUT, "num_hidden_layers": layers, **options}
    torch.manual_seed(0)
    return getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**options)).train()


def test_a_block_that_is_left_out_hands_on_its_input():
    for name in ("Bert", "DebertaV2", "MPNet", "Electra"):
        model = made(name)
        rule = LayerDrop(p=1 - 1e-9)
        with rule.applied(model, None):
            found = model(input_ids=IDS)[0]
        assert rule.acted() == {"blocks": 4}
        states = model(input_ids=IDS, output_hidden_states=True).hidden_states
        torch.testing.assert_close(found, states[0])
        assert not torch.allclose(found, states[-1], atol=1e-3)


@pytest.mark.slow
def test_each_use_of_a_block_is_drawn_and_repeats_with_the_generator():
    model, p = made("Albert", layers=6, embedding_size=4), 0.3
    block = model.encoder.albert_layer_groups[0]
    calls = []
    block.albert_layers[0].register_forward_hook(lambda *_: calls.append(1))
    rule = LayerDrop(p=p)
    rule.forms[type(block)] = form_of(torch.ones(1))
    counts = []
    for seed in (*range(100), 0, 1):
        torch.manual_seed(seed)
        calls.clear()
        with rule.applied(model, None):
            model(input_ids=IDS)
        counts.append(len(calls))
        assert rule.blocks == 6
    assert sum(counts[:100]) / 600 == pytest.approx(1 - p, abs=0.06)
    assert counts[100:] == counts[:2]
    assert len(set(counts)) > 3
    calls.clear()
    model(input_ids=IDS)
    assert len(calls) == 6


def test_looking_at_an_output_draws_no_random_numbers():
    model = made("Bert", hidden_dropout_prob=0.5)
    rule, after = LayerDrop(p=1 - 1e-9), []
    for _ in range(2):  # the second time, it knows what blocks return
        torch.manual_seed(0)
        with rule.applied(model, None):
            model(input_ids=IDS)
        after.append(torch.rand(1))
    assert after[0] == after[1]


def test_activations_that_are_computed_again_are_the_same():
    model = made("Bert", hidden_dropout_prob=0.5)
    gradients = []
    for _ in range(2):
        torch.manual_seed(3)
        model.zero_grad()
        with LayerDrop(p=0.5).applied(model, None):
            loss = model(input_ids=IDS)[0].pow(3).sum()
        loss.backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in model.encoder.parameters()])
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert 0 < sum(gradient is None for gradient in gradients[0]) < len(gradients[0])
    for one, other in zip(*gradients, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_blocks_that_hand_on_more_are_refused():
    with pytest.raises(ConfigError, match="hand on more than hidden states"):
        form_of((torch.ones(1), torch.ones(1), None))
    assert "no repeated blocks" in LayerDrop().idle(nn.Linear(1, 1))


def test_they_are_refused_in_the_first_pass_even_if_it_leaves_none_out():
    sizes = {"vocab_size": 8, "d_model": 4, "d_kv": 2, "d_ff": 4, "num_layers": 2, "num_heads": 2}
    model = transformers.T5Model(transformers.T5Config(**sizes, decoder_start_token_id=0)).train()
    rule = LayerDrop(p=1e-9)
    with rule.applied(model, None), pytest.raises(ConfigError, match="hand on more than hidden states"):
        model(input_ids=IDS, decoder_input_ids=IDS)
