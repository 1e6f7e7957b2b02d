"""A model whose embeddings of texts are trained, and a linear classifier that is fitted to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig
from transformers.modeling_outputs import ModelOutput
from typing_extensions import override

from peftlab.tasks.networks.heads import Head
from peftlab.tasks.networks.own_model import OwnModel


@dataclass
class Embedded(ModelOutput):  # type: ignore[misc]
    """The embeddings of texts, and the logits that the classifier gives them."""

    logits: Tensor | None = None
    """Shape (texts, labels)."""
    embeddings: Tensor | None = None
    """Of length 1, shape (texts, hidden)."""


class EmbeddingClassifier(OwnModel):
    """An encoder, the normalised mean of its tokens (Reimers & Gurevych 2019), and a linear layer over that."""

    suffix: ClassVar[str] = "ForEmbeddingClassification"

    @override
    def build(self, config: PretrainedConfig) -> None:
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    @override
    def read(self, states: Tensor, attention_mask: Tensor | None) -> Embedded:
        embeddings = mean_of_tokens(states, attention_mask)
        return Embedded(self.classifier(embeddings.to(states.dtype)), embeddings)


def mean_of_tokens(states: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the mean of a text's tokens, scaled to length 1, shape (texts, hidden), in fp32 at least.

    Padding and the virtual tokens of a method, which come before a text, are left out.

    Args:
        states: the last hidden states, (texts, tokens, hidden).
        attention_mask: (texts, tokens without virtual ones); None: all are real.
    """
    with torch.autocast(states.device.type, enabled=False):
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        if attention_mask is None:
            return F.normalize(states.mean(1), dim=-1)
        real = attention_mask.unsqueeze(-1).bool()
        return F.normalize(states[:, -real.shape[1] :].masked_fill(~real, 0).sum(1), dim=-1)


def products(embeddings: Tensor) -> Tensor:
    """Return the inner products of all pairs of `embeddings`, (texts, hidden), in fp32 at least, (texts, texts).

    In bf16, as autocast has products, cosines near 1 are 1/256 apart, often as far as those of different texts; a
    temperature magnifies that.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        return embeddings @ embeddings.T


EMBEDDING_CLASSIFICATION = Head(
    f"{__name__}.{EmbeddingClassifier.__name__}",
    "SEQ_CLS",
    "text-classification",
    problem_type="single_label_classification",
)
