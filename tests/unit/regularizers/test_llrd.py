"""The depth of every parameter below the head, against tables written by hand."""

from __future__ import annotations

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from peftlab.regularizers.llrd import Llrd, depths_of
from peftlab.training.optimizers import OptimizerSpec

SMALL = {"vocab_size": 8, "hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 4}
ARCHITECTURES = {
    "Bert": (
        SMALL,
        {"bert.embeddings.": 4, "layer.0.": 3, "layer.1.": 2, "layer.2.": 1, "bert.pooler.": 0, "classifier.": 0},
    ),
    "Roberta": (SMALL, {"roberta.embeddings.": 4, "layer.0.": 3, "layer.1.": 2, "layer.2.": 1, "classifier.": 0}),
    "DistilBert": (
        {"vocab_size": 8, "dim": 4, "n_heads": 2, "n_layers": 3, "hidden_dim": 4},
        {"embeddings.": 4, "layer.0.": 3, "layer.1.": 2, "layer.2.": 1, "pre_classifier.": 0, "classifier.": 0},
    ),
    "DebertaV2": (
        {**SMALL, "relative_attention": True, "max_relative_positions": 8, "norm_rel_ebd": "layer_norm"},
        {
            "deberta.embeddings.": 4,
            "rel_embeddings.": 4,
            "encoder.LayerNorm.": 4,
            "layer.0.": 3,
            "layer.1.": 2,
            "layer.2.": 1,
            "pooler.": 0,
            "classifier.": 0,
        },
    ),
    "Albert": (
        {**SMALL, "embedding_size": 4},
        {
            "embeddings.": 2,
            "embedding_hidden_mapping_in.": 2,
            "albert_layer_groups.0.": 1,
            "pooler.": 0,
            "classifier.": 0,
        },
    ),
    "Electra": (
        {**SMALL, "embedding_size": 2},
        {"embeddings.": 4, "embeddings_project.": 4, "layer.0.": 3, "layer.1.": 2, "layer.2.": 1, "classifier.": 0},
    ),
    "XLNet": (
        {"vocab_size": 8, "d_model": 4, "n_head": 2, "n_layer": 3, "d_inner": 4},
        {
            "mask_emb": 4,
            "word_embedding.": 4,
            "layer.0.": 3,
            "layer.1.": 2,
            "layer.2.": 1,
            "sequence_summary.": 0,
            "logits_proj.": 0,
        },
    ),
    "ModernBert": (
        {**SMALL, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
        {
            "embeddings.": 4,
            "layers.0.": 3,
            "layers.1.": 2,
            "layers.2.": 1,
            "final_norm.": 0,
            "head.": 0,
            "classifier.": 0,
        },
    ),
}
HEAD = [
    "classifier",
    "pre_classifier",
    "bert.pooler",
    "pooler",
    "albert.pooler",
    "logits_proj",
    "sequence_summary",
    "head",
]


def made(name):
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name][0])
    return getattr(transformers, f"{name}ForSequenceClassification")(config)


def test_the_depth_of_every_parameter():
    for architecture, (_, table) in ARCHITECTURES.items():
        depths = depths_of(made(architecture), HEAD)
        for name, depth in depths.items():
            (expected,) = {value for part, value in table.items() if f".{part}" in f".{name}"}
            assert depth == expected, (architecture, name)
        unused = [part for part in table if not any(f".{part}" in f".{name}" for name in depths)]
        assert not unused, architecture


def test_what_lora_adds_has_the_depth_of_its_block():
    model = get_peft_model(made("Bert"), LoraConfig(r=2, target_modules=["query", "word_embeddings"]))
    rule = Llrd(decay=0.5)
    factors = rule.factors(model, HEAD)
    for block, factor in enumerate((0.125, 0.25, 0.5)):
        assert {own for name, own in factors.items() if f".layer.{block}." in name} == {factor}
    assert {factor for name, factor in factors.items() if "word_embeddings" in name} == {0.0625}
    assert rule.acted() == {"weights": 8, "lowest": 0.0625}


def test_the_head_has_its_own_rate():
    model = made("Bert")
    factors = Llrd(decay=0.5).factors(model, HEAD)
    optimizer = OptimizerSpec(lr=0.1, head_lr=0.3, algorithm=torch.optim.SGD).attach(model, HEAD, factors.__getitem__)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates["classifier.weight"] == rates["bert.pooler.dense.bias"] == 0.3
    assert rates["bert.encoder.layer.2.output.dense.weight"] == pytest.approx(0.05)
    assert rates["bert.embeddings.word_embeddings.weight"] == pytest.approx(0.1 / 16)


def test_a_head_alone_has_no_layers_to_slow_down():
    model = nn.ModuleDict({"body": nn.Linear(1, 1), "classifier": nn.Linear(1, 1)})
    model["body"].requires_grad_(False)
    rule = Llrd()
    assert set(rule.factors(model, ["classifier"]).values()) == {1.0}
    assert rule.acted()["weights"] == 0  # by which the run refuses it
