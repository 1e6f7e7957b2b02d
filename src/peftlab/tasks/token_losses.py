"""The cross-entropy of a language model's tokens."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from peftlab.tasks.task import IGNORED


def token_losses(logits: Tensor, labels: Tensor, learnt: int | None = None) -> Tensor:
    """Return the cross-entropy of each token in fp32, the shape of `labels`: 0 where the label is `IGNORED`.

    Args:
        logits: (..., vocabulary).
        labels: the token that each predicts, shape (...).
        learnt: how many labels are not `IGNORED`, if the host knows.
    """
    losses = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view_as(labels)
