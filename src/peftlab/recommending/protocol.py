"""Which interactions are trained on, and which are predicted: always later ones than those that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from peftlab.errors import DataError

Protocol = Literal["leave_one_out", "time"]
"""``leave_one_out``: of each user the last interaction is tested, and the one before validates. ``time``: two moments
divide the interactions of all users, so that nobody's future is trained on. Under the first, other users' later
interactions are: popularity of the future leaks; so are a user's own after one with a cold item."""


@dataclass(frozen=True)
class Division:
    """The places, among interactions in order of users and then time, that make up each split."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    cold: np.ndarray
    """Tested too: interactions with items that are kept out of training."""


def divide(
    users: np.ndarray,
    times: np.ndarray,
    is_cold: np.ndarray,
    protocol: Protocol,
    from_times: tuple[float, float],
) -> Division:
    """Divide interactions.

    Args:
        users: the number of each interaction's user, ascending, shape (interactions,); within a user, oldest first.
        times: shape (interactions,).
        is_cold: whether its item is kept out of training, shape (interactions,).
        protocol: the rule.
        from_times: the moments at which validation and test begin, under ``time``.

    Raises:
        DataError: nothing is left to train on, or to predict.
    """
    warm = np.flatnonzero(~is_cold)
    if protocol == "leave_one_out":
        of = users[warm]
        number = np.bincount(of, minlength=int(users.max(initial=-1)) + 1)
        from_end = np.cumsum(number)[of] - np.arange(len(warm))  # 1 for the last of a user
        enough = number[of] >= 3
        parts = [warm[~enough | (from_end > 2)], warm[enough & (from_end == 2)], warm[enough & (from_end == 1)]]
        cold = np.flatnonzero(is_cold)
        last = np.append(users[cold][1:] != users[cold][:-1], True) if len(cold) else np.zeros(0, bool)
        cold = cold[last]
    else:
        begin, test = from_times
        when = times[warm]
        parts = [warm[when < begin], warm[(when >= begin) & (when < test)], warm[when >= test]]
        cold = np.flatnonzero(is_cold & (times >= test))
    for split, part in zip(("train", "validation", "test"), parts, strict=True):
        if not len(part):
            why = "no user has three" if protocol == "leave_one_out" else f"it begins at {from_times}"
            raise DataError(f"data.format.protocol={protocol} leaves no interaction for the {split} split: {why}")
    return Division(parts[0], parts[1], parts[2], cold)


def choose_cold(items: int, number: int | float, seed: int, occurring: Sequence[int]) -> frozenset[int]:
    """Return the places of the items that are kept out of training: so many, or a share, of the `occurring` ones.

    Args:
        items: number of all items.
        number: how many, or which share.
        seed: chooses them.
        occurring: the places of the items that occur in interactions, ascending.

    Raises:
        DataError: so few would be left that there is nothing to learn.
    """
    count = round(number * len(occurring)) if isinstance(number, float) else number
    if count and count > len(occurring) - 2:
        raise DataError(f"data.format.cold_items={number}: only {len(occurring)} of {items} items occur. Choose fewer")
    order = np.random.default_rng(seed).permutation(np.asarray(occurring, np.int64))
    return frozenset(order[:count].tolist())
