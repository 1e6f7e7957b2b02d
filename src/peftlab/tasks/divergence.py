"""How far two predictions are apart."""

from __future__ import annotations

from torch import Tensor


def kullback_leibler(logits: Tensor, others: Tensor) -> Tensor:
    """Return KL(p || q) of the distributions that `logits` and `others`, (..., labels), stand for, shape (...,)."""
    log_p, log_q = logits.float().log_softmax(-1), others.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
