"""How well probabilities of clicks fit, and how well they order what each user was shown."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.scores.ordering import auc
from peftlab.scores.scorer import Direction, Scorer

_LEAST = 1e-7
"""The probability, at least, of what has happened: the logarithm of 0 would be infinite."""
_TOP = 10


class ClickScores(Scorer):
    """Scores of probabilities that something is liked: logarithmic loss, Brier score and accuracy at one half.

    ``auc``, ``gauc`` (the mean of users' own AUCs, weighted by their examples; Zhou et al. 2018), ``ndcg@10`` and
    ``mrr`` of what each user was shown follow from no sum: they are computed once from all answers of a split. Users
    whose examples are all liked, or none, are in none of the last three; without any user left, these are NaN. Ties
    count as half an order in AUCs, and against what is liked in the others.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"log_loss": "min", "brier": "min", "accuracy": "max"}
    dtype: ClassVar[type[np.number[Any]]] = np.float64
    columns: ClassVar[int] = 3
    name = "probabilities of clicks"
    width = 5
    """Examples, liked ones, and sums of the losses, the squared errors and the right ones."""

    @override
    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        return cls() if name == cls.name else None

    @override
    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the summands of an answer by its ``score``, the probability, and its ``gold``.

        Raises:
            ValueError: the score is no probability.
        """
        gold, score = answer["gold"], answer["score"]
        if gold is None:
            return {}
        if not isinstance(gold, bool) or not isinstance(score, float) or not 0 <= score <= 1:
            raise ValueError(f"{score!r} is no probability of {gold!r}")
        of_gold = score if gold else 1 - score
        values = (1.0, float(gold), -math.log(max(of_gold, _LEAST)), (1 - of_gold) ** 2, float((score >= 0.5) == gold))
        return dict(enumerate(values))

    @override
    def is_right(self, answer: Mapping[str, Any]) -> bool:
        """Return whether the probability is on the side of what happened, as in the accuracy."""
        return bool(answer["gold"] is not None and (answer["score"] >= 0.5) == answer["gold"])

    @override
    def values(self, answer: Mapping[str, Any]) -> tuple[float, float, float]:
        """Return score, gold and a number that stands for the user; NaN for an answer without gold."""
        if answer["gold"] is None:
            return math.nan, math.nan, math.nan
        user = int.from_bytes(hashlib.sha256(str(answer["user"]).encode()).digest()[:6])
        return float(answer["score"]), float(answer["gold"]), float(user)

    @override
    def scores(self, total: np.ndarray) -> dict[str, float]:
        return {name: float(np.float32(value[0])) for name, value in self.batched(total[None]).items()}

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        number, _, loss, brier, right = np.asarray(totals, np.float64).T
        number = np.maximum(number, 1)
        return {"log_loss": loss / number, "brier": brier / number, "accuracy": right / number}

    @override
    def of_all(self, values: np.ndarray) -> dict[str, float]:
        """Return the scores of orders."""
        values = values[~np.isnan(values[:, 1])]
        order = np.lexsort((values[:, 1], values[:, 0], values[:, 2]))  # the order of answers changes no digit
        score, gold, user = values[order].T
        lists = np.split(np.arange(len(user)), np.flatnonzero(np.diff(user)) + 1) if len(user) else []
        mixed = [one for one in lists if 0 < gold[one].sum() < len(one)]
        sizes = [len(one) for one in mixed]
        found = {
            "auc": auc(score, gold > 0),
            "gauc": _mean([auc(score[one], gold[one] > 0) for one in mixed], sizes),
            f"ndcg@{_TOP}": _mean([_ndcg(score[one], gold[one]) for one in mixed]),
            "mrr": _mean([1 / float(_ranks(score[one], gold[one]).min()) for one in mixed]),
        }
        return {name: float(np.float32(value)) for name, value in found.items()}


def _ranks(score: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return the ranks of the liked examples, from 1; those that are not liked come first among ties."""
    order = np.lexsort((gold, -score))
    return np.flatnonzero(gold[order] > 0) + 1


def _ndcg(score: np.ndarray, gold: np.ndarray) -> float:
    ranks, ideal = _ranks(score, gold), np.arange(1, min(int(gold.sum()), _TOP) + 1)
    return float((1 / np.log2(1 + ranks[ranks <= _TOP])).sum() / (1 / np.log2(1 + ideal)).sum())


def _mean(values: Sequence[float], weights: Sequence[int] | None = None) -> float:
    return float(np.average(values, weights=weights)) if values else math.nan
