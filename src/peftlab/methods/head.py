"""Which modules and parameters belong to the task's head."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn
from transformers.modeling_utils import PreTrainedModel

from peftlab.errors import ConfigError


def is_of_head(name: str, head: Iterable[str]) -> bool:
    """Return whether a module or parameter belongs to the head, whatever a method has wrapped around it."""
    return any(f".{module}." in f".{name}." for module in head)


def head_of(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of the modules that make up the task's head: everything after the encoder's last layer.

    These are the modules outside the encoder, and its pooler if it has one. The pooler of BERT and ALBERT corresponds
    to a layer in the heads of other architectures, and its published weights are often random (MiniLM) or missing: left
    frozen, it would hide the encoder from the head.

    Raises:
        ConfigError: the model has the pretrained head of a language model, or no head.
    """
    if own := getattr(model, "head_modules", ()):
        return tuple(own)
    if model.get_output_embeddings() is not None:
        raise ConfigError(
            f"{type(model).__name__} has the pretrained head of a language model, whose outputs are words; a task with "
            "labels needs one such as ...ForSequenceClassification or ...ForTokenClassification"
        )
    children = dict(model.named_children())
    encoders = [name for name, child in children.items() if isinstance(child, PreTrainedModel)]
    encoder = model.base_model_prefix if model.base_model_prefix in children else next(iter(encoders), None)
    if encoder is None or set(encoders) - {encoder}:
        below = f"below its head {' and '.join(encoders)}" if encoders else "no head on top of an encoder"
        raise ConfigError(f"{type(model).__name__} has {below}, and a task with labels needs a head on one encoder")
    poolers = [f"{encoder}.{name}" for name, _ in children[encoder].named_children() if name == "pooler"]
    names = poolers + [name for name in children if name != encoder]
    return tuple(name for name in names if any(True for _ in model.get_submodule(name).parameters()))


def output_of(model: PreTrainedModel, head: Collection[str]) -> str:
    """Return the name of the head's output layer, its last linear one; empty where its size is not that of the labels.

    `head` is the result of `head_of`.
    """
    linear = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and is_of_head(name, head)
    ]
    name, last = linear[-1] if linear else ("", None)
    return name if last is not None and last.out_features == model.config.num_labels else ""
