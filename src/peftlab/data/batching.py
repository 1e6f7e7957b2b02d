"""Which examples make up each batch: a pure function of the lengths, the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


def plan(
    lengths: Sequence[int] | np.ndarray, batch_size: int, bucket_batches: int, seed: int, epoch: int
) -> list[list[int]]:
    """Return the batches of one epoch: similar lengths together, everything else at random.

    The examples are shuffled, cut into buckets of `bucket_batches` batches, sorted by length within each bucket, cut
    into batches, and the batches are shuffled. Padding nearly vanishes, while who meets whom still changes every epoch.

    Args:
        lengths: tokens of each example, shape (examples,).
        batch_size: examples a batch; the last batch of a bucket may be smaller.
        bucket_batches: batches a bucket; 1 makes plainly shuffled batches.
        seed: of the run.
        epoch: from 0; two plans are equal where all arguments are.
    """
    random = np.random.default_rng([seed, epoch])
    lengths = np.asarray(lengths)
    order = random.permutation(len(lengths))
    bucket = batch_size * bucket_batches
    batches = []
    for start in range(0, len(order), bucket):
        members = order[start : start + bucket]
        if bucket_batches > 1:
            members = members[np.argsort(lengths[members], kind="stable")]
        batches += [members[i : i + batch_size].tolist() for i in range(0, len(members), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def in_order_of_length(lengths: Sequence[int] | np.ndarray, batch_size: int) -> list[list[int]]:
    """Return batches for evaluation: all examples once, the longest first, so that memory runs out at once or never."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]


class TrainingBatches(Sampler[list[int]]):
    """The plan of the current epoch, as Lightning sets it with ``set_epoch``."""

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, bucket_batches: int, seed: int) -> None:
        self._arguments = (np.asarray(lengths), batch_size, bucket_batches, seed)
        self._epoch = 0
        self._length = len(plan(*self._arguments, epoch=0))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return iter(plan(*self._arguments, epoch=self._epoch))

    def __len__(self) -> int:
        return self._length
