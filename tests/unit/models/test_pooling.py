"""Pooled vectors, against hidden states pooled by hand and the head's own layers."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch.nn import functional as F

from peftlab.errors import ConfigError, UserError
from peftlab.models.pooling import JOINED, make_plain, pool
from peftlab.speed.border import find_border
from peftlab.tasks.batch import ENTITY_SPANS

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {**SMALL, "intermediate_size": 24, "max_position_embeddings": 40}


def bert(model, vector):
    return model.classifier(torch.tanh(model.bert.pooler.dense(vector)))


def albert(model, vector):
    return model.classifier(torch.tanh(model.albert.pooler(vector)))


def roberta(model, vector):
    return model.classifier.out_proj(torch.tanh(model.classifier.dense(vector)))


def electra(model, vector):
    return model.classifier.out_proj(F.gelu(model.classifier.dense(vector)))


def distilbert(model, vector):
    return model.classifier(F.relu(model.pre_classifier(vector)))


def deberta(model, vector):
    return model.classifier(F.gelu(model.pooler.dense(vector)))


def modernbert(model, vector):
    return model.classifier(model.head.norm(model.head.act(model.head.dense(vector))))


DISTIL = {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 40}
MODERN = {**WIDE, "global_attn_every_n_layers": 1, "pad_token_id": 0, "classifier_pooling": "mean"}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
HEADS = {
    "Bert": (WIDE, bert),
    "Albert": ({**WIDE, "embedding_size": 8}, albert),
    "Roberta": ({**WIDE, "pad_token_id": 1}, roberta),
    "XLMRoberta": ({**WIDE, "pad_token_id": 1}, roberta),
    "Electra": ({**WIDE, "embedding_size": 8}, electra),
    "DistilBert": (DISTIL, distilbert),
    "DebertaV2": ({**WIDE, **RELATIVE, "pooler_hidden_size": 16}, deberta),
    "MPNet": (WIDE, roberta),
    "ModernBert": (MODERN, modernbert),
}


def made(kind: str, seed: int = 0):
    config = getattr(transformers, f"{kind}Config")(**HEADS[kind][0], num_labels=3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()


def rows(left: bool = False):
    """Return inputs of two rows of 7 and 5 tokens, the ids and the mask; some of the padding is no pad token."""
    ids = torch.arange(14).view(2, 7) + 20
    mask = torch.ones_like(ids)
    mask[1, :2] = 0 if left else 1
    mask[1, 5:] = 1 if left else 0
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def states_of(model, inputs):
    return model.base_model(**inputs)[0]


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("kind", HEADS)
@torch.no_grad()
def test_the_head_of_every_architecture_reads_the_pooled_vector(kind):
    """The reference is computed by an equal model without pooling, with the head's layers called by hand."""
    by_hand = HEADS[kind][1]
    reference = made(kind)
    spans = torch.tensor([[[2, 3], [3, 5]], [[3, 5], [2, 3]]])

    def vectors(inputs):
        states, real = states_of(reference, inputs), inputs["attention_mask"].unsqueeze(-1)
        one, other = states[0, 3:5].mean(0), states[1, 3:5].mean(0)
        return {
            "cls": states[range(2), inputs["attention_mask"].argmax(1)],
            "mean": (states * real).sum(1) / real.sum(1),
            "entity_start": torch.stack([(states[0, 2] + states[0, 3]) / 2, (states[1, 3] + states[1, 2]) / 2]),
            "entity_mean": torch.stack([(states[0, 2] + one) / 2, (other + states[1, 2]) / 2]),
        }

    both = [(inputs, vectors(inputs)) for inputs in (rows(), rows(left=True))]
    for pooling in both[0][1]:
        model = made(kind)
        assert pool(model, pooling, {ENTITY_SPANS}, "relation") == ([JOINED] if "entity" in pooling else [])
        for inputs, expected in both:
            logits = model(**inputs, **{ENTITY_SPANS: spans}).logits
            torch.testing.assert_close(logits, by_hand(reference, expected[pooling]), atol=1e-6, rtol=1e-5)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(**inputs, **{ENTITY_SPANS: spans}).logits, logits)


@pytest.mark.slow
@torch.no_grad()
def test_the_bits_are_those_of_the_architecture_where_nothing_or_the_first_token_is_pooled():
    for kind in ("Bert", "Roberta", "DebertaV2"):
        inputs = rows()
        expected = made(kind)(**inputs).logits
        for pooling in (None, "cls"):
            model = made(kind)
            pool(model, pooling, {ENTITY_SPANS}, "relation")
            assert torch.equal(model(**inputs, **{ENTITY_SPANS: torch.zeros(2, 2, 2)}).logits, expected)


@torch.no_grad()
def test_virtual_tokens_and_what_padding_holds_are_not_pooled():
    for pooling in ("cls", "mean", "entity_start", "entity_mean"):
        model = made("Electra")
        pool(model, pooling, {ENTITY_SPANS}, "relation")
        place = model.base_model
        spans = torch.tensor([[[1, 2], [3, 5]], [[1, 2], [3, 5]]])
        inputs = rows() | {ENTITY_SPANS: spans}
        read = []
        place.register_forward_hook(lambda _, __, output, read=read: read.append(output[0]))
        model(**inputs)
        states = states_of(made("Electra"), rows())
        states[1, 5:] = torch.nan
        lengthened = torch.cat([torch.full((2, 3, 16), 7.0), states], 1)
        place.forward = lambda *_, s=lengthened, **__: SimpleOutput(last_hidden_state=s)
        model(**inputs)
        torch.testing.assert_close(read[1], read[0])


class SimpleOutput(transformers.modeling_outputs.BaseModelOutput):
    """An output of an encoder."""


def test_two_entities_are_told_apart_once_their_layer_is_trained():
    model = made("Bert").train()
    assert pool(model, "entity_start", {ENTITY_SPANS}, "relation") == [JOINED]
    spans = torch.tensor([[[1, 2], [3, 5]], [[3, 5], [1, 2]]])
    inputs = {name: tensor[:1].expand(2, -1) for name, tensor in rows().items()} | {ENTITY_SPANS: spans}
    model.eval()
    with torch.no_grad():
        one, other = model(**inputs).logits
        torch.testing.assert_close(one, other)
        model.get_submodule(JOINED).weight[:, :16] *= 2
        one, other = model(**inputs).logits
    assert not torch.allclose(one, other)
    model(**inputs).logits.sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in model.get_submodule(JOINED).parameters())


def test_a_mean_in_bf16_is_summed_in_single_precision():
    model = made("Bert").bfloat16()
    pool(model, "mean", (), "classification")
    ids = torch.full((1, 40), 5)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert logits.dtype == torch.bfloat16
    assert bool(logits.isfinite().all())


def test_what_cannot_be_pooled_is_an_error():
    with pytest.raises(ConfigError, match=r"model\.pooling=entity_start: task=classification marks no entities"):
        pool(made("Bert"), "entity_start", (), "classification")
    config = transformers.XLNetConfig(vocab_size=40, d_model=16, n_layer=1, n_head=2, d_inner=24, num_labels=3)
    with pytest.raises(ConfigError, match="XLNetForSequenceClassification does not read the first position"):
        pool(transformers.XLNetForSequenceClassification(config), "mean", (), "classification")


@pytest.mark.slow
@torch.no_grad()
def test_transformers_own_code_computes_the_same_or_it_is_refused(tmp_path):
    for kind, pooling in [("ModernBert", "mean"), ("ModernBert", "cls"), ("Bert", "cls"), ("Bert", None)]:
        model = made(kind)
        pool(model, pooling, (), "classification")
        expected = model(**rows()).logits
        make_plain(model, pooling)
        model.save_pretrained(tmp_path / f"{kind}-{pooling}")
        plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / f"{kind}-{pooling}").eval()
        torch.testing.assert_close(plain(**rows()).logits, expected, atol=1e-6, rtol=1e-5)
    for kind, pooling in [("Bert", "mean"), ("ModernBert", "entity_mean")]:
        with pytest.raises(UserError, match=f"model.pooling={pooling}: {kind}ForSequenceClassification"):
            make_plain(made(kind), pooling)
    assert make_plain(SimpleNamespace(), "cls") is None


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_training_starts_from_activations_that_are_pooled_above_the_border(kind):
    for pooling in ("mean", "entity_mean"):
        model = made(kind)
        names = pool(model, pooling, {ENTITY_SPANS}, "relation")
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(("classifier", "bert.pooler", *names))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        border = find_border(model, rows() | {ENTITY_SPANS: torch.tensor([[[1, 2], [3, 5]]] * 2)})
        assert (border.layers, border.of_layers) == (2, 2)
