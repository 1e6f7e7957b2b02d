"""Where the right item stands in a ranking of all items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.scores.scorer import Direction, Scorer

TOP = 10
"""The length of the list that is recommended."""
LONG = 50
"""The length of one that another program would rank again."""


class RankingScores(Scorer):
    """Scores of rankings of all candidates with one right item each.

    ``hit@10`` and ``hit@50`` are the shares of examples whose right item is among the first 10 or 50, which is recall
    with one right item; ``ndcg@10`` is 1/log2(1 + rank) among the first 10, else 0 (Järvelin & Kekäläinen 2002);
    ``mrr`` is the mean of 1/rank over the whole ranking. Cold items, which no training example has, are not in these:
    they have scores of their own beside ``chance@10``, the hit@10 of a random ranking.
    """

    directions: ClassVar[Mapping[str, Direction]] = dict.fromkeys(
        (f"ndcg@{TOP}", f"hit@{TOP}", "mrr", f"hit@{LONG}"), "max"
    )
    dtype: ClassVar[type[np.number[Any]]] = np.float64
    name = "full ranking of all unseen items"
    width = 12
    """Examples, sums of the four scores, and of the hit@10 of chance; then the same of cold items."""

    @override
    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        return cls() if name == cls.name else None

    @override
    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the summands of an answer by its ``rank`` among its ``candidates``, and whether it is ``cold``.

        Raises:
            ValueError: there is no such rank.
        """
        rank, candidates = answer["rank"], answer["candidates"]
        if rank is None:  # without gold
            return {}
        if not isinstance(rank, int) or not isinstance(candidates, int) or not 1 <= rank <= candidates:
            raise ValueError(f"rank {rank!r} of {candidates!r} candidates")
        values = (1.0, *of_rank(rank).values(), min(TOP, candidates) / candidates)
        start = self.width // 2 if answer["cold"] else 0
        return {start + n: value for n, value in enumerate(values)}

    @override
    def is_right(self, answer: Mapping[str, Any]) -> bool:
        """Return whether the right item is the first."""
        return bool(answer["rank"] == 1)

    @override
    def scores(self, total: np.ndarray) -> dict[str, float]:
        return {name: float(np.float32(value[0])) for name, value in self.batched(total[None]).items()}

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        sums = np.asarray(totals, np.float64)
        return {name: sums[:, 1 + n] / np.maximum(sums[:, 0], 1) for n, name in enumerate(self.directions)}

    @override
    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the scores and, where there are any, those of cold items, with what chance gives."""
        warm, cold = np.split(total, 2)
        chance = f"chance@{TOP}"
        scores = self.scores(total) | {chance: float(np.float32(warm[-1] / max(warm[0], 1)))}
        if cold[0]:
            means: list[float] = (cold[1:] / cold[0]).astype(np.float32).tolist()
            scores |= {f"cold_{name}": mean for name, mean in zip([*self.directions, chance], means, strict=True)}
        return scores

    @override
    def report(self, total: np.ndarray) -> str:
        counted = f"{int(total[0]):,} rankings, and {int(total[self.width // 2]):,} of cold items"
        scores = self.details(total)
        width = max(map(len, scores))
        return "\n".join([*(f"{name:{width}}  {value:.4f}" for name, value in scores.items()), counted])


def of_rank(rank: int) -> dict[str, float]:
    """Return the scores of one right item at a rank, from 1."""
    values = (1 / math.log2(1 + rank) if rank <= TOP else 0.0, float(rank <= TOP), 1 / rank, float(rank <= LONG))
    return dict(zip(RankingScores.directions, values, strict=True))
