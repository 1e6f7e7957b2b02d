"""The kinds of language models, the heads that they take, and their padding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from transformers import PretrainedConfig

from peftlab.errors import ConfigError
from peftlab.methods.targets import is_attention, target_modules
from peftlab.models.language_models import check_kind, input_embeddings, let_ends_learn
from peftlab.seams.transformers import kind_of
from peftlab.tasks.networks.heads import CAUSAL_LM, MASKED_LM, SEQ2SEQ_LM, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION

KINDS = {
    "encoder": ["Bert", "Roberta", "ModernBert", "DebertaV2", "MPNet", "Electra", "Albert"],
    "decoder": ["Llama", "Qwen3", "GPT2", "Gemma3Text", "Gemma3", "OPT", "Mistral"],
    "encoder-decoder": ["T5", "MT5", "Bart", "Pegasus"],
}


def config_of(name: str, **settings) -> PretrainedConfig:
    return getattr(transformers, f"{name}Config")(**settings)


def test_the_kind_of_an_architecture():
    for kind, names in KINDS.items():
        assert {name: kind_of(config_of(name)) for name in names} == dict.fromkeys(names, kind)
    assert kind_of(config_of("Bert", is_decoder=True)) == "decoder"


@pytest.mark.parametrize(
    ("name", "head", "reason"),
    [
        ("Bert", CAUSAL_LM, "for decoders, and a bert is an encoder, which sees the tokens .* model=smollm2_135m"),
        ("T5", CAUSAL_LM, "for decoders, and a t5 is an encoder-decoder, .* task=seq2seq is for it"),
        ("Llama", SEQ2SEQ_LM, "for encoder-decoders, and a llama is a decoder, .* model=t5_small_titles"),
        ("Llama", MASKED_LM, "transformers has no AutoModelForMaskedLM for the architecture llama"),
        ("Bart", TOKEN_CLASSIFICATION, "transformers has no AutoModelForTokenClassification .* bart"),
    ],
)
def test_a_head_that_does_not_fit(name, head, reason):
    with pytest.raises(ConfigError, match=rf"^task=own.* {reason}"):
        check_kind(config_of(name), head, "own")


def test_heads_that_fit():
    for name, head in (("Qwen3", CAUSAL_LM), ("Bart", SEQ2SEQ_LM), ("Bert", MASKED_LM)):
        check_kind(config_of(name), head, "own")
    for names in KINDS.values():
        check_kind(config_of(names[0]), SEQUENCE_CLASSIFICATION, "own")
    check_kind(config_of("Bert"), CAUSAL_LM._replace(model=f"{__name__}.OwnModel", of=None), "own")


class OwnModel:
    """A model of a task's own, which is of no auto class."""


@pytest.mark.parametrize(("ends", "learns"), [(2, True), ([5, 2], True), (5, False), (None, False)])
def test_the_end_of_a_text_learns_where_it_is_the_padding_too(ends, learns):
    embeddings = nn.Embedding(6, 4, padding_idx=2)
    config = SimpleNamespace(eos_token_id=ends, get_text_config=lambda: config)
    let_ends_learn(SimpleNamespace(config=config, get_input_embeddings=lambda: embeddings))
    embeddings(torch.tensor([2])).sum().backward()
    assert bool(embeddings.weight.grad[2].any()) == learns


def test_models_of_pictures_and_sounds_have_no_table_of_words():
    """They load all the same, and their layers can be named as targets."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    conv = {"conv_dim": (16,), "conv_stride": (5,), "conv_kernel": (10,), "num_feat_extract_layers": 1}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    sound = transformers.Wav2Vec2ForSequenceClassification(config_of("Wav2Vec2", **sizes, **conv, **positions))
    picture = transformers.ViTForImageClassification(config_of("ViT", **sizes, image_size=8, patch_size=4))
    assert input_embeddings(sound) is None
    for model in (sound, picture):
        let_ends_learn(model)
        names = [name for name, module in model.named_modules() if is_attention(name) and isinstance(module, nn.Linear)]
        assert target_modules(model, names, ("classifier",)) == names
