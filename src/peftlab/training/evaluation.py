"""What an evaluation of one split comes to: its answers, its scores, and its mean loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric

from peftlab.tasks.batch import Batch
from peftlab.tasks.metric import ScorerMetric
from peftlab.tasks.task import Task
from peftlab.training.micro_batches import MicroBatches

Answers = list[dict[str, Any]]


class Evaluation(nn.Module):
    """Counts what a model answers, batch by batch, over all ranks."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.metric = ScorerMetric(task.scorer)
        # Lightning's own mean rounds the weights when it averages them over ranks; "disable" would drop them altogether
        self.mean_loss = MeanMetric(nan_strategy=math.nan)

    def reset(self) -> None:
        """Begin anew."""
        self.metric.reset()
        self.mean_loss.reset()

    def values(self) -> dict[str, Tensor]:
        """Return the mean loss and the scores."""
        return {"loss": self.mean_loss.compute(), **self.metric.compute()}

    def take(self, batch: Batch, pieces: MicroBatches, answer: Callable[[Batch], tuple[Tensor, Answers]]) -> Answers:
        """Count a batch, in pieces where it does not fit in memory, and return the answers to it.

        Args:
            batch: the examples; of a filler nothing counts.
            pieces: cuts what does not fit.
            answer: computes a piece, and returns its loss and the answers to it.
        """
        answers: Answers = []
        for piece in pieces.pieces(batch):
            done = pieces.attempt(answer, piece)
            if done is None:
                answers += self.take(piece, pieces, answer)
            elif piece.examples:
                loss, found = done[0]
                self.mean_loss.update(loss, piece.weights.sum().to(loss.device))
                self.metric.update(found)
                answers += found
        return answers
