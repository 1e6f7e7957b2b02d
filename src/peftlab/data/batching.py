"""The examples of each batch, and how a batch is divided among devices and forward passes.

All of it is a pure function of the lengths, the seed and the epoch, so that every rank knows the whole plan.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from torch.utils.data import Sampler

from peftlab.tasks.batch import Part


class Plan(Sequence[list[int]]):
    """Batches of examples, by their positions; a batch becomes a list when it is accessed, a slice a list of them.

    Args:
        order: the examples, shape (examples,).
        bounds: where each batch begins in `order`, and where the last one ends, shape (batches + 1,).
        turns: the batches in the order of the plan, shape (batches,); None: as they are in `order`.
    """

    def __init__(self, order: np.ndarray, bounds: np.ndarray, turns: np.ndarray | None = None) -> None:
        self._order, self._bounds = order, bounds
        self._turns = np.arange(len(bounds) - 1) if turns is None else turns

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...
    def __getitem__(self, place: int | slice) -> list[int] | list[list[int]]:
        """Return a batch, or several; raises IndexError where there is none."""
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        turn = self._turns[place]
        batch: list[int] = self._order[self._bounds[turn] : self._bounds[turn + 1]].tolist()
        return batch

    def __eq__(self, other: object) -> bool:
        """Return whether `other` is a sequence of the same batches."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # like a list's


def plan(
    lengths: Sequence[int] | np.ndarray,
    batch_size: int,
    bucket_batches: int,
    seed: int,
    epoch: int,
    batch_tokens: int | None = None,
    rows: np.ndarray | None = None,
) -> Plan:
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
        # by rows too: in another order of these, the same examples would make more batches, or fewer
        order = order[np.lexsort((rows[order], lengths[order]))]
        bounds = _filled(lengths[order], rows[order], batch_tokens)
        return Plan(order, bounds, random.permutation(len(bounds) - 1))
    bucket = batch_size * bucket_batches
    bounds = _bounds(len(order), batch_size)  # of whole batches in each bucket, so that only the last one is smaller
    if bucket_batches > 1:
        for start in range(0, len(order), bucket):
            members = order[start : start + bucket]
            order[start : start + bucket] = members[np.argsort(lengths[members], kind="stable")]
    return Plan(order, bounds, random.permutation(len(bounds) - 1))


def _bounds(examples: int, batch_size: int) -> np.ndarray:
    """Return where each batch begins, and where the last one ends, shape (batches + 1,)."""
    return np.append(np.arange(0, examples, batch_size), examples)


def _filled(lengths: np.ndarray, rows: np.ndarray, batch_tokens: int) -> np.ndarray:
    """Return the bounds, as `_bounds` does, of batches of at most `batch_tokens`, padding included.

    Args:
        lengths: tokens in each example's longest row, ascending, shape (examples,).
        rows: the number of rows of each, shape (examples,).
        batch_tokens: see `plan`.
    """
    bounds, height = array("q", [0]), 0
    for place, (length, own) in enumerate(zip(lengths, rows, strict=True)):
        height += own
        if place > bounds[-1] and height * length > batch_tokens:
            bounds.append(place)
            height = own
    bounds.append(len(lengths))
    return np.asarray(bounds)


def in_order_of_length(lengths: Sequence[int] | np.ndarray, batch_size: int) -> Plan:
    """Return batches for evaluation: each example once, longest first, so that memory runs out at once or never."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return Plan(order, _bounds(len(order), batch_size))


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
    full: int | None = None
    """The number of examples in a whole batch, by which parts are filled up, see `Part.size`; 0: it has none; None:
    parts are not filled up."""

    def of_training_batch(self, batch: list[int], epoch: int | None = None) -> list[Part]:
        """Return this rank's parts of `batch`, one per forward pass.

        A batch is sorted by length and dealt out like cards, so that all parts take about the same time. Where none is
        left for a part, or where a batch that is drawn is empty, its pass runs on a filler.
        """
        parts = self.world_size * self.accumulate
        size = None if self.full is None else -(-self.full // parts)
        return [Part(batch[n::parts], batch or [0], epoch, size) for n in range(self.rank, parts, self.world_size)]

    def of_evaluation(self, batches: Sequence[list[int]]) -> list[Part]:
        """Return this rank's batches, whole, and fillers so that all ranks make the same number of forward passes.

        The batches are those of a single device, so the outputs for an example do not depend on the number of ranks.
        """
        own = batches[self.rank :: self.world_size]
        passes = -(-len(batches) // self.world_size)
        return [Part(batch, batch) for batch in own] + [Part([], batches[-1])] * (passes - len(own))


class TrainingBatches(Sampler[list[Part]]):
    """Yields this rank's parts of each step in the current epoch, which Lightning sets with ``set_epoch``."""

    def __init__(self, plan_of: Callable[[int], Sequence[list[int]]], division: Division) -> None:
        """Take the batches of an epoch from `plan_of`, and divide each as `division` says."""
        self._plan_of, self._division = plan_of, division
        self._epoch = 0
        self._position = (0, 0)
        self._batches = len(plan_of(0))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self._epoch = epoch

    def go_on(self, epoch: int, batches: int) -> None:
        """Set the epoch of the next iteration, and skip the first `batches` of that epoch."""
        self._epoch, self._position = epoch, (epoch, batches)

    def __iter__(self) -> Iterator[list[Part]]:
        epoch, done = self._position
        batches = self._plan_of(self._epoch)
        for place in range(done if self._epoch == epoch else 0, len(batches)):
            yield self._division.of_training_batch(batches[place], self._epoch)

    def __len__(self) -> int:
        return self._batches
