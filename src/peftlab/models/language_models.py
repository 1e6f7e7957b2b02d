"""The kinds of pretrained language models, and what is particular to those that write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from peftlab.errors import ConfigError
from peftlab.seams.transformers import ModelKind, has_head, kind_of
from peftlab.tasks.networks.heads import Head, model_class

_REMEDIES: dict[ModelKind, str] = {
    "decoder": "Choose a decoder, such as model=smollm2_135m",
    "encoder-decoder": "Choose an encoder-decoder, such as model=t5_small_titles",
}

NAMES_IN_WHOLE = {r"^(model\.)?language_model\.lm_head": "lm_head", r"^(model\.)?language_model\.(model\.)?": "model."}
"""Patterns of the names of a language model's tensors in the weights of one of words and pictures, and their own."""


def of_words(config: PretrainedConfig, head: Head, settings: Mapping[str, Any]) -> PretrainedConfig:
    """Return the configuration, with `settings`, of the decoder alone in a model of words and pictures with `config`.

    Any other `config`, which has those that transformers knows, is returned itself with the others; so is that of a
    model whose decoder transformers has no class with `head` for.
    """
    for name in settings:
        if not hasattr(config, name):
            setattr(config, name, settings[name])
    words = config.get_text_config()
    if words is config or kind_of(config) != "decoder" or not has_head(model_class(head), words):
        return config
    of_both = ("architectures", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
    known = {name: value for name in of_both if (value := getattr(config, name, None)) is not None}
    return type(words).from_dict(words.to_dict() | known | dict(settings))


def name_alone(name: str) -> str:
    """Return the name, below the base model, of a tensor of a decoder alone, by its `name` in the whole model."""
    for pattern, own in NAMES_IN_WHOLE.items():
        name = re.sub(pattern, own, name)
    return name.removeprefix("model.")


def check_kind(config: PretrainedConfig, head: Head, task: str) -> None:
    """Check that there is `head` for models with this configuration, and that they are of the kind that it needs.

    Raises:
        ConfigError: there is none, or they are of another kind; the message names the `task`.
    """
    kind = kind_of(config)
    if head.of not in (None, kind):
        article = "a" if kind == "decoder" else "an"
        reason = {
            "encoder": "which sees the tokens that it would have to predict",
            "decoder": "which has no encoder for the source",
            "encoder-decoder": "whose decoder alone would lack what its encoder reads; task=seq2seq is for it",
        }[kind]
        raise ConfigError(
            f"task={task} is for {head.of}s, and a {config.model_type} is {article} {kind}, {reason}. "
            f"{_REMEDIES[head.of]}"
        )
    if not has_head(auto := model_class(head), config):
        raise ConfigError(
            f"task={task}: transformers has no {auto.__name__} for the architecture {config.model_type}. "
            "Choose another model; `peftlab models` lists them"
        )


def input_embeddings(model: Any) -> nn.Module | None:
    """Return the module that `model` names as its input embeddings; None: it names none, as models of sounds do.

    Only for texts is it a table of vectors.
    """
    try:
        module = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return module if isinstance(module, nn.Module) else None


def let_ends_learn(model: PreTrainedModel) -> None:
    """Let the embedding of the token that ends a text learn where it is the padding too, which transformers prevents.

    Padding is masked by its position, and so has no gradient anyway.
    """
    ends = getattr(model.config.get_text_config(), "eos_token_id", None)
    embeddings: Any = input_embeddings(model)
    padding = getattr(embeddings, "padding_idx", None)
    if padding is not None and padding in (ends if isinstance(ends, list) else [ends]):
        embeddings.padding_idx = None
