"""Collates the parts of a step into batches, each with its share of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from peftlab.data.batching import generator_of
from peftlab.data.static_shapes import StaticShapes
from peftlab.tasks.batch import Batch, Part
from peftlab.tasks.task import Encoded, Task

Recall = Callable[[Batch, Sequence[int]], None]
"""Adds previously computed results to the inputs of a batch, which was collated from these examples."""


class Batches(Dataset[Batch]):
    """Maps a part of a step to its batch, with its share of the step.

    Args:
        task: the task of the examples.
        examples: a split, or some of its examples.
        encoded: the same examples, encoded.
        split: the name of the split.
        seed: the seed of the run.
        recall: adds previously computed results; None: there are none.
        factors: the factor on the weight of each example, shape (examples,); None: 1 for all.
        numbers: the position of each example in the split, which its random numbers depend on; None: `examples` is the
            whole split.
        static: pads the batches to a few shapes; None: they are as wide as their longest row.
    """

    def __init__(
        self,
        task: Task,
        examples: Sequence[Any],
        encoded: Encoded,
        split: str,
        seed: int,
        recall: Recall | None,
        factors: np.ndarray | None = None,
        numbers: Sequence[int] | None = None,
        static: StaticShapes | None = None,
    ) -> None:
        self.task, self.examples, self.encoded, self.split = task, examples, encoded, split
        self.seed, self.recall, self.factors, self.numbers = seed, recall, factors, numbers
        self.static = static

    def __getitem__(self, part: Part) -> Batch:
        indices = part.examples or part.batch[:1]
        random = None if part.epoch is None else partial(self._generator, part.epoch)
        batch = self.task.collate(self.examples, self.encoded, indices, random)
        if self.recall is not None:
            self.recall(batch, indices)
        if self.factors is not None:
            batch.factors = torch.from_numpy(self.factors[list(indices)])
        batch.split, batch.part, batch.scale = self.split, part, self._share(part, batch)
        if not part.examples:
            batch.examples, batch.tokens = [], 0
        return batch if self.static is None else self.static.padded(batch, part.size)

    def _generator(self, epoch: int, example: int) -> np.random.Generator:
        return generator_of(self.seed, epoch, example if self.numbers is None else self.numbers[example])

    def _share(self, part: Part, batch: Batch) -> float:
        """Return the share of a part in its step, which each rank computes without communication."""
        if len(part.examples) == len(part.batch):
            return 1.0 if batch.weights.any() else 0.0
        whole = self._weight(part.batch)
        return self._weight(part.examples) / whole if whole else 0.0

    def _weight(self, indices: list[int]) -> float:
        weights = self.task.weights(self.examples, self.encoded, indices)
        return float(sum((weights if self.factors is None else weights * self.factors[indices]).tolist()))

    def __len__(self) -> int:
        return len(self.examples)


class Steps(Dataset[list[Batch]]):
    """Maps the parts of a step to their batches."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, parts: list[Part]) -> list[Batch]:
        return [self.batches[part] for part in parts]

    def __len__(self) -> int:
        return len(self.batches)
