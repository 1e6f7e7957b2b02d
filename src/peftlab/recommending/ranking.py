"""The place of the right item among all that a user has not seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np


class Ranking(NamedTuple):
    """How items are ranked for one user."""

    rank: int | None
    """The place of the right item, from 1; None without one. Ties count against it: a recommender that gives all items
    the same score finds nothing."""
    candidates: int
    """How many items are ranked."""
    best: list[int]
    """The places in the catalogue of the items with the highest scores, the best first."""


def ranked(scores: np.ndarray, item: int | None, seen: Collection[int], top: int) -> Ranking:
    """Rank all items but those `seen`: none is sampled, for ranks among a sample favour other recommenders than those
    among all (Krichene & Rendle 2020).

    Args:
        scores: the score of each item, shape (items,); higher is better. NaN counts as the lowest.
        item: the place of the right item, which is never among `seen`; None: there is none.
        seen: the places of the items that are left out.
        top: how many to return.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    left_out = np.fromiter(seen, np.int64, len(seen))
    open_to = np.ones(len(scores), bool)
    open_to[left_out] = False
    candidates = int(open_to.sum())
    rank = None if item is None else int((scores[open_to] >= scores[item]).sum())
    places = np.flatnonzero(open_to)
    best = places[np.argsort(-scores[places], kind="stable")[:top]]
    return Ranking(rank, candidates, best.tolist())


def ranks(scores: np.ndarray, items: Sequence[int], seen: Sequence[Collection[int]]) -> np.ndarray:
    """Return the rank of the right item of each row of `scores`, (queries, items), as `ranked` does."""
    return np.asarray([ranked(*row, 0).rank for row in zip(scores, items, seen, strict=True)], np.int64)
