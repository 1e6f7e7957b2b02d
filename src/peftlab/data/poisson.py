"""Batches drawn at random, as accountants of differential privacy assume: every unit joins each on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True)
class Poisson:
    """Poisson sampling: each unit, an example or a group of them, is in a batch with probability `rate`.

    No other unit, and no other batch, has a part in that. Shuffled batches do not have this property, and the privacy
    that is billed for it (Chua et al. 2024, arXiv 2403.17673).
    """

    units: np.ndarray
    """The number of the unit of each example, from 0, shape (examples,)."""
    rate: float
    """The probability of each unit."""
    steps: int
    """The number of batches in an epoch."""
    seed: int | None = None
    """What the draws follow from, beside epoch and place of the batch; None: nothing can be drawn yet."""

    @property
    def number(self) -> int:
        """The number of units."""
        return int(self.units.max()) + 1

    def plan(self, epoch: int) -> PoissonPlan:
        """Return the batches of an epoch, from 0."""
        return PoissonPlan(self, epoch)


class PoissonPlan(Sequence[list[int]]):
    """The batches of one epoch, each drawn when it is accessed; some may be empty."""

    def __init__(self, sampling: Poisson, epoch: int) -> None:
        self.sampling, self.epoch = sampling, epoch

    def __len__(self) -> int:
        return self.sampling.steps

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...
    def __getitem__(self, place: int | slice) -> list[int] | list[list[int]]:
        """Return the examples of a batch, ascending, or several batches; raises IndexError where there is none."""
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        assert self.sampling.seed is not None
        random = np.random.default_rng([self.sampling.seed, self.epoch, range(len(self))[place]])
        joins = random.random(self.sampling.number) < self.sampling.rate
        batch: list[int] = np.flatnonzero(joins[self.sampling.units]).tolist()
        return batch


def numbered(names: Sequence[str | None]) -> np.ndarray:
    """Return the number of the unit of each example, shape (examples,), from the name of its group.

    Examples of the same name are one unit; one without a name is a unit of its own.
    """
    first: dict[tuple[str | int, bool], int] = {}
    keys = [(place, False) if name is None else (name, True) for place, name in enumerate(names)]
    return np.asarray([first.setdefault(key, len(first)) for key in keys], dtype=np.int64)
