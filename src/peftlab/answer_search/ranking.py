"""How well rankings of answers do: nDCG, mean reciprocal rank and recall at k, as trec_eval defines them. NumPy."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def scores_of(rankings: Sequence[Sequence[Any]], right: Sequence[Collection[Any]], k: int) -> dict[str, float]:
    """Return the means over questions of the scores at `k`.

    ``ndcg``: the discounted cumulative gain over that of the best ranking, a right answer at rank r gaining
    1 / log2(r + 1) (Järvelin & Kekäläinen 2002); ``mrr``: the reciprocal rank of the first right answer, 0 if it is not
    among the first `k`; ``recall``: the share of the right answers that are.

    Args:
        rankings: of each question, the ids of the answers found, best first.
        right: of each question, the ids of its right answers, at least one.
        k: how many answers count.
    """
    each = [_of_question(list(ranking[:k]), set(wanted), k) for ranking, wanted in zip(rankings, right, strict=True)]
    return {f"{name}@{k}": math.fsum(one[name] for one in each) / len(each) for name in ("ndcg", "mrr", "recall")}


def _of_question(ranking: Sequence[Any], right: set[Any], k: int) -> Mapping[str, float]:
    hits = [rank for rank, answer in enumerate(ranking, start=1) if answer in right]
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(right), k) + 1))
    return {
        "ndcg": sum(1 / math.log2(rank + 1) for rank in hits) / best,
        "mrr": 1 / hits[0] if hits else 0.0,
        "recall": len(hits) / len(right),
    }
