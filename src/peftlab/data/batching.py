"""The examples of each batch, and how a batch is divided among devices and forward passes.

All of it is a pure function of the lengths, the seed and the epoch, so that every rank knows the whole plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch.utils.data import Sampler

from peftlab.tasks.batch import Part


def plan(
    lengths: Sequence[int] | np.ndarray,
    batch_size: int,
    bucket_batches: int,
    seed: int,
    epoch: int,
    batch_tokens: int | None = None,
    rows: np.ndarray | None = None,
) -> list[list[int]]:
    """Return the batches of one epoch: similar lengths together, otherwise random.

    The examples are shuffled, cut into buckets of `bucket_batches` batches, sorted by length within each bucket and cut
    into batches, which are shuffled. This nearly removes padding, and still mixes the examples anew every epoch.

    With `batch_tokens` the whole split is one bucket, cut wherever another example would exceed the limit. Then every
    epoch has the same number of batches, and each mixes only examples of nearly the same length.

    Args:
        lengths: tokens in each example's longest row, shape (examples,).
        batch_size: examples per batch; the last batch of a bucket may be smaller.
        bucket_batches: batches per bucket; 1 means no sorting.
        seed: the seed of the run.
        epoch: from 0; equal arguments give equal plans.
        batch_tokens: maximum tokens per batch, padding included, in place of `batch_size`; a longer example becomes a
            batch of its own. None: `batch_size` applies.
        rows: number of rows of each example, shape (examples,), all padded to the longest of the batch; None: one each.
    """
    random = np.random.default_rng([seed, epoch])
    lengths = np.asarray(lengths)
    order = random.permutation(len(lengths))
    if batch_tokens is not None:
        rows = np.ones_like(lengths) if rows is None else rows
        batches = _filled(order[np.argsort(lengths[order], kind="stable")], lengths, rows, batch_tokens)
        return [batches[i] for i in random.permutation(len(batches))]
    bucket = batch_size * bucket_batches
    batches = []
    for start in range(0, len(order), bucket):
        members = order[start : start + bucket]
        if bucket_batches > 1:
            members = members[np.argsort(lengths[members], kind="stable")]
        batches += [members[i : i + batch_size].tolist() for i in range(0, len(members), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def _filled(order: np.ndarray, lengths: np.ndarray, rows: np.ndarray, batch_tokens: int) -> list[list[int]]:
    """Cut `order`, sorted by length, into batches of at most `batch_tokens`, padding included."""
    batches: list[list[int]] = [[]]
    height = 0
    for i in order.tolist():
        height += rows[i]
        if batches[-1] and height * lengths[i] > batch_tokens:
            batches.append([])
            height = rows[i]
        batches[-1].append(i)
    return batches


def in_order_of_length(lengths: Sequence[int] | np.ndarray, batch_size: int) -> list[list[int]]:
    """Return batches for evaluation: each example once, longest first, so that memory runs out at once or never."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]


def generator_of(seed: int, epoch: int, example: int) -> np.random.Generator:
    """Return the generator of one example in one epoch, see `peftlab.tasks.task.Random`.

    It depends on nothing else, so that an augmented example is the same on any number of devices, however its batch is
    divided, and when the run is resumed.
    """
    return np.random.default_rng([seed, epoch, example, 1])  # the last number separates the stream from that of `plan`


@dataclass(frozen=True)
class Division:
    """How batches are divided: each among all ranks, and each rank's share among several forward passes."""

    world_size: int = 1
    """Number of ranks, one per device."""
    rank: int = 0
    """This rank, from 0."""
    accumulate: int = 1
    """Forward passes per rank and optimiser step."""

    def of_training_batch(self, batch: list[int], epoch: int | None = None) -> list[Part]:
        """Return this rank's parts of `batch`, one per forward pass.

        A batch is sorted by length and dealt out like cards, so that all parts take about the same time.
        """
        parts = self.world_size * self.accumulate
        return [Part(batch[n::parts], batch, epoch) for n in range(self.rank, parts, self.world_size)]

    def of_evaluation(self, batches: list[list[int]]) -> list[Part]:
        """Return this rank's batches, whole, and fillers so that all ranks make the same number of forward passes.

        The batches are those of a single device, so the outputs for an example do not depend on the number of ranks.
        """
        own = batches[self.rank :: self.world_size]
        passes = -(-len(batches) // self.world_size)
        return [Part(batch, batch) for batch in own] + [Part([], batches[-1])] * (passes - len(own))


class TrainingBatches(Sampler[list[Part]]):
    """Yields this rank's parts of each step in the current epoch, which Lightning sets with ``set_epoch``."""

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        bucket_batches: int,
        seed: int,
        division: Division,
        batch_tokens: int | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self._plan = partial(
            plan, np.asarray(lengths), batch_size, bucket_batches, seed, batch_tokens=batch_tokens, rows=rows
        )
        self._division = division
        self._epoch = 0
        self._position = (0, 0)
        self._batches = len(self._plan(epoch=0))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self._epoch = epoch

    def go_on(self, epoch: int, batches: int) -> None:
        """Set the epoch of the next iteration, and skip the first `batches` of that epoch."""
        self._epoch, self._position = epoch, (epoch, batches)

    def __iter__(self) -> Iterator[list[Part]]:
        epoch, done = self._position
        for batch in self._plan(epoch=self._epoch)[done if self._epoch == epoch else 0 :]:
            yield self._division.of_training_batch(batch, self._epoch)

    def __len__(self) -> int:
        return self._batches
