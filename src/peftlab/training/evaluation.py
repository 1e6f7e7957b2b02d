"""The results of evaluating one split: its answers, its scores and its mean loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric

from peftlab.tasks.batch import Batch
from peftlab.tasks.outputs.metric import ScorerMetric
from peftlab.tasks.task import Task
from peftlab.training.micro_batches import MicroBatches

Answers = list[dict[str, Any]]


class Evaluation(nn.Module):
    """Accumulates a model's answers, batch by batch, over all ranks."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.metric = ScorerMetric(task.scorer)
        # Lightning's own mean rounds the weights when it averages them over ranks; "disable" would drop them
        self.mean_loss = MeanMetric(nan_strategy=math.nan)

    def reset(self) -> None:
        """Start over."""
        self.metric.reset()
        self.mean_loss.reset()

    def values(self) -> dict[str, Tensor]:
        """Return the mean loss and the scores."""
        return {"loss": self.mean_loss.compute(), **self.metric.compute()}

    def take(self, batch: Batch, pieces: MicroBatches, answer: Callable[[Batch], tuple[Tensor, Answers]]) -> Answers:
        """Add a batch, in pieces where it does not fit in memory, and return its answers.

        Args:
            batch: the examples; a filler counts for nothing.
            pieces: cuts batches that do not fit.
            answer: computes a piece, and returns its loss and its answers.
        """
        answers: Answers = []
        for piece in pieces.pieces(batch):
            done = pieces.attempt(answer, piece)
            if done is None:
                answers += self.take(piece, pieces, answer)
            elif piece.examples:
                loss, predictions = done[0]
                self.mean_loss.update(loss, piece.weights.sum().to(loss.device))
                self.metric.update(predictions)
                answers += predictions
        return answers
