"""What is cut out of a model, against the whole model in which the same is masked or skipped."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.contract.test_methods_on_backbones import CONFIGS, backbone, inputs
from tests.tiny_models import DECODERS, ENCODER_DECODERS

from peftlab.errors import ConfigError
from peftlab.methods.head import head_of
from peftlab.methods.method import MethodContext
from peftlab.methods.sliced import Sliced
from peftlab.methods.slices import layers_of, units
from peftlab.tasks.networks.heads import CAUSAL_LM, SEQ2SEQ_LM, model_class

IDS = torch.arange(10, 42).reshape(2, 16)
NO_HEADS = ("mpnet",)
"""All layers share a bias of positions for each head."""
SINGLE = [*(name for name in CONFIGS if name != "albert"), *DECODERS]


@pytest.fixture
def made(language_model):
    """Return a maker of a tiny model in evaluation mode, with the arguments of its forward pass."""

    def make(name):
        if name in CONFIGS:
            return copy.deepcopy(backbone(name, "TOKEN_CLS")).eval(), inputs()
        head = CAUSAL_LM if name in DECODERS else SEQ2SEQ_LM
        model = model_class(head).from_pretrained(language_model(name)).eval()
        given = {"input_ids": IDS, "use_cache": False}
        return model, given if name in DECODERS else given | {"decoder_input_ids": IDS[:, :9]}

    return make


def sliced(model, **options):
    head = head_of(model) if "Classification" in type(model).__name__ else ()
    context = MethodContext(head, None, "made here")
    return Sliced(name="sliced", learning_rate=1, **{"layers": None} | options).apply(model, context).eval()


@torch.no_grad()
def logits(model, given):
    return model(**given).logits


def masked(model, kind, layer, kept, given):
    """The logits of the whole model in which all but some units of a layer are zero where they are read."""
    each = units(layers_of(model, ())[layer], kind)
    mask = torch.zeros(each.count)
    mask[list(kept)] = 1
    columns = mask[:, None].expand(each.columns().shape).flatten()
    hook = each.out.register_forward_pre_hook(lambda module, args: (args[0] * columns,))
    with torch.no_grad():
        found = model(**given).logits
    hook.remove()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["heads", "ffn"])
def test_what_is_cut_out_is_what_is_masked(kind, made):
    for name in SINGLE:
        model, given = made(name)
        layer = layers_of(model, ())[1]
        if kind == "heads" and name in NO_HEADS:
            assert units(layer, kind) is None
            with pytest.raises(ConfigError, match="the heads of MPNetForTokenClassification cannot be cut out"):
                sliced(model, heads={1: [0]})
            continue
        count = units(layer, kind).count
        kept = [count - 1] if kind == "heads" else list(range(5))
        expected, whole = masked(model, kind, 1, kept, given), logits(model, given)
        size = sum(p.numel() for p in model.parameters())
        cut = sliced(model, **{kind: {1: kept if kind == "heads" else 5}})
        found = logits(cut, given)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
        if count > len(kept):
            assert not torch.allclose(found, whole, atol=1e-4), name
            assert sum(p.numel() for p in cut.parameters()) < size, name
        merged = Sliced(name="sliced", learning_rate=1).merge(cut)
        torch.testing.assert_close(logits(merged, given), expected, atol=1e-5, rtol=0)
        shapes = {key: tensor.shape for key, tensor in made(name)[0].state_dict().items()}
        assert {key: tensor.shape for key, tensor in merged.state_dict().items()} == shapes, name


@pytest.mark.slow
def test_nothing_is_changed_where_all_is_kept(made):
    for name in SINGLE:
        model, given = made(name)
        before = logits(model, given)
        layer = layers_of(model, ())[0]
        chosen = {kind: units(layer, kind) for kind in ("heads", "ffn")}
        options = {"heads": {0: list(range(chosen["heads"].count))}} if chosen["heads"] else {}
        cut = sliced(model, ffn={0: chosen["ffn"].count}, **options)
        assert torch.equal(logits(cut, given), before), name


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("name", [*SINGLE, *ENCODER_DECODERS])
def test_layers_left_out_are_as_if_they_were_never_there(name, made, tmp_path):
    """transformers builds the same from the configuration, also with a cache."""
    model, given = made(name)
    cut = sliced(model, layers="first:1")
    found = logits(cut, given)
    assert not torch.allclose(found, logits(made(name)[0], given), atol=1e-4)
    cut.save_pretrained(tmp_path)
    again = type(cut).from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert again.state_dict().keys() == cut.state_dict().keys()
    torch.testing.assert_close(logits(again, given), found, atol=1e-5, rtol=0)
    if name in (*DECODERS, *ENCODER_DECODERS):
        written = [each.generate(IDS, max_new_tokens=5, do_sample=False) for each in (cut, again)]
        assert torch.equal(*written)


def test_the_first_layer_is_kept_where_it_differs(made):
    for name, of_first in (("modernbert", "attn_norm"), ("t5", "relative_attention_bias")):
        with pytest.raises(ConfigError, match=rf"layer 0 of .* must be kept: .*{of_first}.*\[0, 1\]"):
            sliced(made(name)[0], layers="last:1")
    with pytest.raises(ConfigError, match="needs layers with weights of their own"):
        sliced(made("albert")[0], layers="first:1")


def test_a_kind_of_layer_stays_with_its_layer(made):
    model, given = made("gemma3")
    cut = sliced(model, layers=[1])
    assert cut.config.layer_types == ["full_attention"]
    assert cut.model.layers[0].self_attn.layer_idx == 0
    assert torch.equal(cut.generate(IDS, max_new_tokens=3)[:, :16], IDS)
    assert logits(cut, given).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "first:3"}, "has 2 blocks, 0 to 1"),
        ({"layers": "first:1", "ffn": {1: 8}}, r"peft.ffn.1: layer 1 is not kept; peft.layers=first:1 keeps 0"),
        ({"heads": {0: [7]}}, "peft.heads.0: layer 0 has 2 heads, numbered from 0"),
        ({"heads": {0: [1, 0]}}, "in ascending order"),
        ({"heads": {0: []}}, "name at least one head"),
        ({"ffn": {0: 0}}, "at least one row"),
        ({"layers": "each:2"}, "allowed are first:N, last:N, every:N"),
    ],
)
def test_what_cannot_be_kept(options, message, made):
    with pytest.raises(ConfigError, match=message):
        sliced(made("roberta")[0], **options)


def test_an_encoder_with_a_decoder_has_only_layers_to_cut(made):
    with pytest.raises(ConfigError, match="has an encoder and a decoder"):
        sliced(made("bart")[0], ffn={0: 8})
