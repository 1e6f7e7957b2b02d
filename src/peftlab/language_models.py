"""The kinds of pretrained language models, and what is particular to those that write."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from peftlab.errors import ConfigError
from peftlab.seams.transformers import ModelKind, has_head, kind_of
from peftlab.tasks.heads import Head, model_class

_REMEDIES: dict[ModelKind, str] = {
    "decoder": "Choose a decoder, such as model=smollm2_135m",
    "encoder-decoder": "Choose an encoder-decoder, such as model=t5_small_titles",
}


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
    if getattr(embeddings, "padding_idx", None) in (ends if isinstance(ends, list) else [ends]):
        embeddings.padding_idx = None
