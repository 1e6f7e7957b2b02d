"""The model under attack: what it answers to examples with gold, how wrong it is, and how often it was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from peftlab.tasks.batch import Batch
from peftlab.tasks.limits import Limits
from peftlab.use.predictor import Predictor


@dataclass(frozen=True)
class Judged:
    """The answer to an example, held against its gold."""

    answer: Mapping[str, Any]
    """What `Task.answers` returns."""
    loss: float
    """The task's loss of the example."""
    right: bool
    """Whether it is scored as the gold would be."""


@dataclass
class Victim:
    """A fine-tuned model under attack.

    Args:
        predictor: the model with all that it needs.
    """

    predictor: Predictor
    queries: int = field(default=0, init=False)
    """Examples that were computed, each as often as it was."""
    passes: int = field(default=0, init=False)
    """Forward passes, each of a batch."""

    def judged(self, examples: Sequence[Any]) -> list[Judged]:
        """Return the answer to each of `examples`, which have gold.

        Raises:
            DataError: one of them cannot be encoded.
        """
        judged: dict[int, Judged] = {}
        for indices, batch in self.batches(examples):
            with torch.inference_mode(), self.predictor.arithmetic():
                judged |= zip(
                    indices, self.judge(self.predictor.task.outputs(self.predictor.model, batch), batch), strict=True
                )
        return [judged[n] for n in range(len(examples))]

    def batches(self, examples: Sequence[Any]) -> Iterator[tuple[list[int], Batch]]:
        """Yield the batches of `examples`, longest first, on the device, each with the positions of its examples."""
        by = self.predictor
        if not examples:
            return
        encoded = by.task.encode(examples, by.processor, Limits(by.max_tokens, by.long))
        yield from by.batches(examples, encoded)

    def sees_the_same(self, examples: Sequence[Any], others: Sequence[Any]) -> bool:
        """Return whether the model gets the same input for both: its tokenizer may not tell upper from lower case."""
        by = self.predictor
        one, other = (
            by.task.encode(these, by.processor, Limits(by.max_tokens, by.long)) for these in (examples, others)
        )
        return all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())

    def judge(self, outputs: Any, batch: Batch) -> list[Judged]:
        """Return the answers in the outputs of a forward pass, which is counted."""
        task = self.predictor.task
        self.count(batch)
        losses = task.losses(outputs, batch).float().tolist()
        answers = task.answers(outputs, batch, self.predictor.model, final=task.generates)
        return [
            Judged(answer, loss, task.scorer.is_right(answer)) for answer, loss in zip(answers, losses, strict=True)
        ]

    def count(self, batch: Batch) -> None:
        """Count a forward pass of a batch."""
        self.queries += len(batch.examples)
        self.passes += 1
