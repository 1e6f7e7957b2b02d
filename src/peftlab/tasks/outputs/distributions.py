"""The categorical distributions that a model's outputs stand for."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from peftlab.tasks.batch import Batch


@dataclass(frozen=True, slots=True)
class Distributions:
    """Softmax distributions over classes, and how much each counts in the task's loss."""

    logits: Tensor
    """Shape (rows, ..., classes), in fp32."""
    gold: Tensor
    """The gold class, shape (rows, ...); anything where the weight is 0."""
    weights: Tensor
    """The weight of each in the mean loss, shape (rows, ...), 0 where there is no gold."""

    def by_example(self, values: Tensor, batch: Batch) -> Tensor:
        """Return the weighted sum of `values`, shape (rows, ...), for each example, shape (examples,).

        Those of a task that makes one distribution of the rows of an example are returned as they are.
        """
        weighted = values * self.weights
        if weighted.shape == batch.weights.shape:
            return weighted
        return batch.by_example(weighted) if weighted.ndim == 1 else batch.by_token(weighted)


def kullback_leibler(logits: Tensor, others: Tensor) -> Tensor:
    """Return KL(p || q) of the softmax distributions of `logits` and `others`, (..., labels), shape (...,)."""
    log_p, log_q = logits.float().log_softmax(-1), others.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
