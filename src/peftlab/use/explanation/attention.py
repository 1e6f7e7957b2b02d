"""Attention weights as an attribution: they show where a model looks, which is no explanation of what it decides.

Other weights can give the same outputs (Jain and Wallace 2019). They are here to be held against the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peftlab.errors import UserError
from peftlab.models.pooling import OF_ENTITIES
from peftlab.seams.transformers import attention_of, kind_of
from peftlab.tasks.batch import ENTITY_SPANS
from peftlab.use.explanation.attribution import Attribution, Settings
from peftlab.use.explanation.subject import Subject


def explain(subject: Subject, settings: Settings) -> Attribution:
    """Return the last layer's attention to each word, averaged over the heads and summed over the word's tokens.

    Raises:
        UserError: the model returns no attention weights.
    """
    return _of_words(subject, _weights(subject)[-1])


def rollout(subject: Subject, settings: Settings) -> Attribution:
    """Return the attention to each word, followed through all layers (Abnar and Zuidema 2020, section 3).

    Half of every layer is the residual connection.

    Raises:
        UserError: the model returns no attention weights.
    """
    layers = _weights(subject)
    total = torch.eye(layers[0].shape[-1], dtype=layers[0].dtype)
    for weights in layers:
        total = (weights + torch.eye(len(weights), dtype=weights.dtype)) / 2 @ total
    return _of_words(subject, total)


def _of_words(subject: Subject, weights: Tensor) -> Attribution:
    """Return the attention that the target pays to each word, from weights of shape (queries, tokens)."""
    positions = subject.target.positions
    queries = [list(positions)] if positions else _read_at(subject)
    of_tokens = np.asarray(torch.stack([weights[own].mean(0) for own in queries]).mean(0))
    return Attribution(np.asarray([of_tokens[list(word.positions)].sum() for word in subject.words]))


def _read_at(subject: Subject) -> list[list[int]]:
    """Return the tokens that a head of texts reads, in groups that count alike.

    They are those of the pooling; without one, the last token in a decoder, else the first.
    """
    model: Any = subject.predictor.model
    real = subject.batch.real
    tokens = list(range(subject.batch.shape[1] if real is None else int(real[subject.target.row].sum())))
    pooling = subject.predictor.pooling or getattr(model.config, "classifier_pooling", None)  # ModernBERT has its own
    if pooling == "mean":
        return [tokens]
    if pooling in OF_ENTITIES:
        entities = subject.inputs[ENTITY_SPANS][0].tolist()
        return [tokens[start : start + 1 if pooling == "entity_start" else end] for start, end in entities]
    return [tokens[-1:] if kind_of(model.config) == "decoder" else tokens[:1]]


def _weights(subject: Subject) -> list[Tensor]:
    """Return each layer's attention, averaged over its heads, each of shape (tokens, tokens), rows summing to 1.

    Virtual tokens come first, and are left out.
    """
    model: Any = subject.predictor.model
    if not hasattr(model, "set_attn_implementation") or kind_of(model.config) == "encoder-decoder":
        raise UserError(
            f"attention: {type(model).__name__} returns no attention of one stack of layers; take --how ig, occlusion "
            "or shapley"
        )
    with torch.no_grad(), eager(model), subject.predictor.arithmetic():
        # heads of our own return no attention
        layers = getattr(model(**subject.inputs, output_attentions=True), "attentions", None)
    if not layers:
        raise UserError(f"attention: {type(model).__name__} returns no attention weights; take --how ig")
    tokens = subject.batch.shape[1]
    means = (one[0].float().mean(0)[-tokens:, -tokens:].cpu() for one in layers)
    return [mean / mean.sum(-1, keepdim=True).clamp(min=torch.finfo(mean.dtype).tiny) for mean in means]


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """Have `model` compute attention step by step in this context: torch's own kernels return no weights."""
    before = attention_of(model)
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
