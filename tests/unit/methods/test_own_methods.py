"""Methods of our own against the equations of their papers, their parameters against closed formulas."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from peftlab.errors import ConfigError
from peftlab.methods.adapters import Bottleneck, Houlsby, Parallel, Pfeiffer
from peftlab.methods.compacter import Compacter, PHMLinear
from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.mam import MixAndMatch
from peftlab.methods.method import MethodContext
from peftlab.methods.prefix import Prefix
from peftlab.methods.prompts import PrefixTuning, PromptTuning, PTuning
from peftlab.methods.reft import LoReFT, LowRankIntervention
from peftlab.methods.unipelt import Gate, RealTokens, UniPELT

D, BLOCKS, VOCABULARY = 16, 3, 30
GIVEN = {"name": "x", "learning_rate": 1e-3}


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": D, "num_hidden_layers": BLOCKS, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=20, initializer_range=0.2, **sizes)
    return BertForSequenceClassification(config).eval()


def applied(method, model):
    return method.apply(model, MethodContext(head_of(model), "SEQ_CLS", "here"))


def randomise(model):
    """Give what has been added other numbers than those that add nothing."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)


def padded():
    torch.manual_seed(2)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    return {"input_ids": torch.randint(5, VOCABULARY, (2, 5)) * mask, "attention_mask": mask}


ADAPTER = 2 * D * 4 + 4 + D
FORMULAS = [
    # with it two normalisations a block (section 2.1 there)
    (Houlsby(bottleneck=4, **GIVEN), BLOCKS * 2 * (ADAPTER + 2 * D)),
    (Houlsby(bottleneck=4, layer_norms=False, **GIVEN), BLOCKS * 2 * ADAPTER),
    (Houlsby(bottleneck=4, layers="last:1", **GIVEN), 2 * (ADAPTER + 2 * D)),
    (Pfeiffer(bottleneck=4, **GIVEN), BLOCKS * ADAPTER),
    (Parallel(bottleneck=4, **GIVEN), BLOCKS * ADAPTER),
    (Parallel(bottleneck=4, layers="last:1", **GIVEN), ADAPTER),
    # two adapters a block with 2 (k + d) for their matrices of rank 1, biases beside; n^3 for all (section 4 there)
    (Compacter(bottleneck=8, n=4, **GIVEN), BLOCKS * 2 * (2 * (8 + D) + 8 + D + 2 * D) + 4**3),
    (LoReFT(rank=3, **GIVEN), BLOCKS * (2 * D * 3 + 3)),
    (MixAndMatch(prefix=5, prefix_std=0.1, bottleneck=4, **GIVEN), BLOCKS * (2 * 5 * D + ADAPTER)),
    (
        UniPELT(rank=2, prefix=5, prefix_std=0.1, bottleneck=4, **GIVEN),
        BLOCKS * (2 * 2 * 2 * D + 2 * 5 * D + ADAPTER + 3 * (D + 1)),
    ),
    (PromptTuning(num_virtual_tokens=6, **GIVEN), 6 * D),
    (PTuning(num_virtual_tokens=6, **GIVEN), 6 * D + 3 * (D * D + D)),
    (PrefixTuning(num_virtual_tokens=6, **GIVEN), 6 * 2 * BLOCKS * D),
    (
        PrefixTuning(num_virtual_tokens=6, prefix_projection=True, encoder_hidden_size=7, **GIVEN),
        6 * D + (D + 1) * 7 + 8 * 2 * BLOCKS * D,
    ),
]


@pytest.mark.parametrize(("method", "expected"), FORMULAS, ids=lambda value: type(value).__name__)
def test_parameters_are_those_of_the_formula(method, expected, model):
    head = sum(p.numel() for name, p in model.named_parameters() if is_of_head(name, head_of(model)))
    assert method.count(applied(method, model))["trainable_parameters"] == expected + head


def test_a_bottleneck_is_its_equation():
    torch.manual_seed(0)
    adapter = Bottleneck(6, 3, "relu", scaling=4.0)
    randomise(adapter)
    h = torch.randn(2, 5, 6)
    inner = (h @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    torch.testing.assert_close(adapter(h), 4 * (inner @ adapter.up.weight.T + adapter.up.bias))


def sub_layers(model, block):
    """Watch the last block: what goes into its feed-forward network, what comes out of it, and of the block."""
    seen = {}
    block.intermediate.dense.register_forward_pre_hook(lambda _, args: seen.update(ffn_in=args[0]))
    block.output.dense.register_forward_hook(lambda _, args, out: seen.update(ffn_out=out))
    block.attention.output.dense.register_forward_hook(lambda _, args, out: seen.update(attention=out))
    block.register_forward_hook(lambda _, args, out: seen.update(block=out))
    model(**padded())
    return seen


@pytest.mark.parametrize(
    ("method", "place"),
    [
        (Houlsby(bottleneck=4, **GIVEN), "attention"),
        (Parallel(bottleneck=4, **GIVEN), "ffn_out"),
        (Pfeiffer(bottleneck=4, **GIVEN), "block"),
    ],
)
def test_where_adapters_are(method, place, model):
    """In the first block, what was there plus the adapter of what it sees."""
    block = model.bert.encoder.layer[0]
    before = sub_layers(model, block)
    applied(method, model)
    randomise(model.bert)
    after = sub_layers(model, block)
    owner = {"attention": block.attention.output.dense, "ffn_out": block.output.dense, "block": block}[place]
    adapter = owner.adapter
    seen = before["ffn_in"] if place == "ffn_out" else before[place]
    expected = before[place] + adapter.scaling * adapter.up(adapter.activation(adapter.down(seen)))
    torch.testing.assert_close(after[place], expected)


def test_phm_layers_are_sums_of_kronecker_products():
    torch.manual_seed(0)
    layer = PHMLinear(8, 12, nn.Parameter(torch.randn(4, 4, 4)), zero=False)
    expected = sum(torch.kron(layer.rules[i], torch.outer(layer.left[i], layer.right[i])) for i in range(4))
    torch.testing.assert_close(layer.weight, expected)
    assert torch.linalg.matrix_rank(torch.outer(layer.left[0], layer.right[0])) == 1


def test_all_compacters_share_their_rules(model):
    applied(Compacter(bottleneck=8, n=4, **GIVEN), model)
    layers = [module for module in model.modules() if isinstance(module, PHMLinear)]
    assert len(layers) == BLOCKS * 2 * 2
    assert len({id(layer.rules) for layer in layers}) == 1


@pytest.mark.parametrize(("bottleneck", "n", "what"), [(6, 4, "peft.bottleneck, 6"), (9, 3, "hidden size, 16")])
def test_sizes_that_compacter_cannot_divide(bottleneck, n, what, model):
    with pytest.raises(ConfigError, match=f"peft.n={n} must divide .*{what}"):
        applied(Compacter(bottleneck=bottleneck, n=n, **GIVEN), model)


@pytest.mark.parametrize("tokens", [None, 2])
def test_loreft_is_equation_2(tokens):
    torch.manual_seed(0)
    edit = LowRankIntervention(6, 3, tokens)
    h = torch.randn(2, 5, 6)
    torch.testing.assert_close(edit(h), torch.zeros_like(h), atol=1e-6, rtol=0)
    randomise(edit)
    rotation = edit.rotation
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3))
    expected = torch.stack([rotation.T @ (edit.source(x) - rotation @ x) for x in h.flatten(0, 1)]).view_as(h)
    if tokens:
        expected[:, tokens:] = 0
    torch.testing.assert_close(edit(h), expected)


def test_a_subspace_larger_than_the_space(model):
    with pytest.raises(ConfigError, match=r"peft\.rank=17 is more than the model's hidden size, 16"):
        applied(LoReFT(rank=17, **GIVEN), model)


def test_a_prefix_comes_before_and_stays_as_it_is():
    prefix = Prefix(torch.arange(8.0).view(2, 4), torch.ones(2, 4))
    keys = torch.zeros(3, 2, 5, 2)  # batch, heads, tokens, size
    for _ in range(2):
        longer, values = prefix.update(keys, keys, 0)
        assert longer.shape == values.shape == (3, 2, 7, 2)
        assert longer[1, :, :2].tolist() == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]


def test_gates_do_not_see_padding():
    torch.manual_seed(0)
    tokens = RealTokens()
    gate = Gate(4, tokens)
    states = torch.randn(1, 5, 4)
    short = gate(states[:, :3])
    tokens.mask = torch.tensor([[1, 1, 1, 0, 0]])
    torch.testing.assert_close(gate(states), short)
    assert 0 < float(short) < 1


OWN = [
    Houlsby(bottleneck=4, **GIVEN),
    Pfeiffer(bottleneck=4, **GIVEN),
    Parallel(bottleneck=4, **GIVEN),
    Compacter(bottleneck=8, n=4, **GIVEN),
    LoReFT(rank=3, **GIVEN),
    MixAndMatch(prefix=5, prefix_std=0.1, bottleneck=4, **GIVEN),
    UniPELT(rank=2, prefix=5, prefix_std=0.1, bottleneck=4, **GIVEN),
    PromptTuning(num_virtual_tokens=6, **GIVEN),
    PTuning(num_virtual_tokens=6, **GIVEN),
    PrefixTuning(num_virtual_tokens=6, **GIVEN),
]


@pytest.mark.parametrize("method", OWN, ids=lambda method: type(method).__name__)
def test_padding_changes_nothing(method, model):
    applied(method, model)
    randomise(model)
    given = padded()
    alone = {name: tensor[1:, :3] for name, tensor in given.items()}
    torch.testing.assert_close(model(**given).logits[1:], model(**alone).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "other"),
    [
        (Parallel(bottleneck=4, scaling=4.0, **GIVEN), Parallel(bottleneck=4, scaling=1.0, **GIVEN)),
        (Houlsby(bottleneck=4, activation="gelu", **GIVEN), Houlsby(bottleneck=4, activation="relu", **GIVEN)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_an_adapter_that_was_trained_with_other_options_is_not_begun_with(method, other, model, tmp_path):
    context = MethodContext(head_of(model), "SEQ_CLS", "here")
    method.save(applied(method, copy.deepcopy(model)), tmp_path, context)
    begun = applied(other, copy.deepcopy(model))
    with pytest.raises(ConfigError, match=r"trained with other options; set peft\.(scaling=4\.0|activation=\"gelu\")"):
        other.adopt(begun, tmp_path, context)
    assert method.adopt(applied(method, copy.deepcopy(model)), tmp_path, context) == []
