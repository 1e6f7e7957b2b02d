"""The divergence between two predictions."""

from __future__ import annotations

from torch import Tensor


def kullback_leibler(logits: Tensor, others: Tensor) -> Tensor:
    """Return KL(p || q) of the softmax distributions of `logits` and `others`, (..., labels), shape (...,)."""
    log_p, log_q = logits.float().log_softmax(-1), others.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
