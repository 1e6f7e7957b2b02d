"""Which examples make up each batch, and how a batch is divided among devices and forward passes.

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
    """Return the batches of one epoch: similar lengths together, everything else at random.

    The examples are shuffled, cut into buckets of `bucket_batches` batches, sorted by length within each bucket, cut
    into batches, and the batches are shuffled. Padding nearly vanishes, while who meets whom still changes every epoch.

    With `batch_tokens` the whole split is one bucket, cut wherever another example would exceed it. So every epoch has
    as many batches; only examples of nearly the same length meet, in ever other batches.

    Args:
        lengths: tokens of each example, of its longest row, shape (examples,).
        batch_size: examples a batch; the last batch of a bucket may be smaller.
        bucket_batches: batches a bucket; 1 makes plainly shuffled batches.
        seed: of the run.
        epoch: from 0; two plans are equal where all arguments are.
        batch_tokens: the most tokens a batch has, padding included, in place of `batch_size`; a longer example makes a
            batch of its own. None: a batch has so many examples.
        rows: of each example, shape (examples,), all of which are padded to the longest of the batch; None: one each.
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
    """Cut `order`, from the shortest to the longest, into batches of at most `batch_tokens` with their padding."""
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
    """Return batches for evaluation: all examples once, the longest first, so that memory runs out at once or never."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]


def generator_of(seed: int, epoch: int, example: int) -> np.random.Generator:
    """Return the random numbers of one example in one epoch, see `peftlab.tasks.task.Random`.

    They depend on nothing else, so that an augmented example is the same on any number of devices, however its batch is
    divided, and when the run is resumed.
    """
    return np.random.default_rng([seed, epoch, example, 1])  # the last number tells the stream from that of `plan`


@dataclass(frozen=True)
class Division:
    """How batches are divided: each among all ranks, and what a rank gets of it among several forward passes."""

    world_size: int = 1
    """Ranks, one a device."""
    rank: int = 0
    """Whose parts are asked for, from 0."""
    accumulate: int = 1
    """Forward passes a rank makes for one step of the optimiser."""

    def of_training_batch(self, batch: list[int], epoch: int | None = None) -> list[Part]:
        """Return this rank's parts of `batch`, one a forward pass.

        A batch is in the order of its lengths and is dealt out like cards, so that all parts take about the same time.
        """
        parts = self.world_size * self.accumulate
        return [Part(batch[n::parts], batch, epoch) for n in range(self.rank, parts, self.world_size)]

    def of_evaluation(self, batches: list[list[int]]) -> list[Part]:
        """Return this rank's batches, whole, and fillers so that every rank makes as many forward passes.

        The batches are those of a single device: what is computed for an example does not depend on the ranks.
        """
        own = batches[self.rank :: self.world_size]
        passes = -(-len(batches) // self.world_size)
        return [Part(batch, batch) for batch in own] + [Part([], batches[-1])] * (passes - len(own))


class TrainingBatches(Sampler[list[Part]]):
    """The plan of the current epoch, as Lightning sets it with ``set_epoch``; of each step this rank's parts."""

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
        """Choose the epoch of the next iteration."""
        self._epoch = epoch

    def go_on(self, epoch: int, batches: int) -> None:
        """Choose the epoch of the next iteration, and let that epoch begin after so many batches."""
        self._epoch, self._position = epoch, (epoch, batches)

    def __iter__(self) -> Iterator[list[Part]]:
        epoch, done = self._position
        for batch in self._plan(epoch=self._epoch)[done if self._epoch == epoch else 0 :]:
            yield self._division.of_training_batch(batch, self._epoch)

    def __len__(self) -> int:
        return self._batches
