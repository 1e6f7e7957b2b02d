"""What was measured of a method: a score for each seed and, where predictions are kept, its parts by cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.scores.paired import counts_of
from peftlab.scores.scorer import Scorer

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Score = Callable[[np.ndarray], np.ndarray]
"""From sums of counts, shape (number, width), to a score each, shape (number,)."""

MOST_DENSE = 2**12
"""The largest width of whole counts that are kept as they are: of more, such as the confusions of 150 labels, nearly
all are 0, and those of a run would take gigabytes."""

_MOST_CELLS = 2**22
"""Counts that are held at once where they are kept without zeros: 32 MiB."""


@dataclass(frozen=True)
class Measured:
    """The runs of one method that were scored on one test set."""

    name: str
    seeds: tuple[int, ...]
    scores: np.ndarray
    """Shape (seeds,)."""
    pseudo_values: np.ndarray | None = None
    """Shape (seeds, clusters), see `pseudo_values`; a row's mean is the score. None: only the scores are known."""

    @classmethod
    def of_scores(cls, name: str, scores: Mapping[int, float]) -> Measured:
        """Return what the score of each seed says, which is nothing about the uncertainty of the test set."""
        return cls(name, tuple(scores), np.array(list(scores.values()), np.float64))

    @classmethod
    def of_counts(cls, name: str, counts: Mapping[int, np.ndarray], score: Score) -> Measured:
        """Return what the counts of each seed say.

        Args:
            name: the name of the method.
            counts: by seed, shape (clusters, width), the clusters in the same order for all seeds and methods.
            score: the score.

        Raises:
            ValueError: the runs were not scored on the same clusters.
        """
        if len({one.shape for one in counts.values()}) > 1:
            shapes = ", ".join(f"seed {seed}: {one.shape}" for seed, one in counts.items())
            raise ValueError(f"{name}: the counts differ in shape ({shapes}); expected the same clusters in every run")
        return cls.of_pseudo_values(name, {seed: pseudo_values(one, score) for seed, one in counts.items()})

    @classmethod
    def of_pseudo_values(cls, name: str, values: Mapping[int, np.ndarray]) -> Measured:
        """Return what the pseudo-values of each seed say, of shape (clusters,) each, the clusters in the same order."""
        rows = list(values.values())
        return cls(name, tuple(values), np.array([row.mean() for row in rows], np.float64), np.array(rows))


def score_of(scorer: Scorer, metric: str) -> Score:
    """Return the function that computes one score of `scorer` from sums of counts.

    Raises:
        ValueError: the scorer has no such score.
    """
    if metric not in scorer.directions:
        raise ValueError(f"{scorer.name} has no score {metric!r}; it has {', '.join(scorer.directions)}")
    return lambda totals: scorer.batched(totals)[metric]


def cluster_counts(counts: np.ndarray, groups: Sequence[str | None]) -> np.ndarray:
    """Return the counts of each cluster of examples, in the order of the clusters' first examples.

    Examples of one document, dialogue or user are not independent: what is sampled is the cluster (Miller 2024,
    "Adding Error Bars to Evals", section 2.2).

    Args:
        counts: of each example, shape (examples, width).
        groups: the cluster of each example; an example with None is a cluster by itself.

    Returns:
        Shape (clusters, width).

    Raises:
        ValueError: the lengths differ.
    """
    if len(counts) != len(groups):
        raise ValueError(f"{len(groups)} clusters are named for {len(counts)} examples")
    rows: dict[str | int, int] = {}
    places = [rows.setdefault(index if group is None else group, len(rows)) for index, group in enumerate(groups)]
    summed = np.zeros((len(rows), counts.shape[1]), counts.dtype)
    np.add.at(summed, places, counts)
    return summed


def counts_of_clusters(
    scorer: Scorer, answers: Sequence[Mapping[str, Any]], groups: Sequence[str | None]
) -> np.ndarray | csr_array:
    """Return the counts of each cluster of answers, see `cluster_counts`; above `MOST_DENSE` without zeros.

    Raises:
        ValueError: an answer cannot be scored, or the lengths differ.
    """
    if scorer.width <= MOST_DENSE or not np.issubdtype(scorer.dtype, np.integer):  # sums of whole numbers are exact
        return cluster_counts(counts_of(scorer, answers), groups)
    from scipy.sparse import csr_array

    rows: dict[str | int, int] = {}
    entries: list[tuple[int, int, int | float]] = []
    for index, (answer, group) in enumerate(zip(answers, groups, strict=True)):
        row = rows.setdefault(index if group is None else group, len(rows))
        entries += [(row, place, count) for place, count in scorer.counts(answer).items()]
    of_rows, places, counts = np.asarray(entries, np.int64).reshape(-1, 3).T
    summed = csr_array((counts.astype(scorer.dtype), (of_rows, places)), shape=(len(rows), scorer.width))
    summed.eliminate_zeros()
    summed.sort_indices()
    return summed


def pseudo_values(counts: np.ndarray | csr_array, score: Score) -> np.ndarray:
    """Return how the clusters make up the score: jackknife pseudo-values, shifted so that their mean is the score.

    With C clusters and θ₋ⱼ the score without cluster j, the value of cluster j is θ + (C - 1)(θ₋ - θ₋ⱼ), where θ₋ is
    the mean of θ₋ⱼ (Tukey 1958; Efron & Tibshirani 1993, equation 11.19, less the estimate of bias). The variance of
    their mean is the jackknife's variance of the score, which allows for correlation within clusters (Rao & Shao 1992).

    Args:
        counts: of each cluster, shape (clusters, width), see `counts_of_clusters`.
        score: the score.

    Returns:
        Shape (clusters,).

    Raises:
        ValueError: there is no cluster.
    """
    number = counts.shape[0]
    if not number:
        raise ValueError("there is no cluster, so there is no score")
    total = counts.sum(axis=0)
    whole = score(total[None])
    if number == 1:
        return whole
    without = score(total - counts) if isinstance(counts, np.ndarray) else _without(counts, total, score)
    return whole + (number - 1) * (without.mean() - without)


def _without(counts: csr_array, total: np.ndarray, score: Score) -> np.ndarray:
    """Return the score without each cluster, shape (clusters,); that of clusters that are alike is computed once."""
    alike: dict[tuple[bytes, bytes], int] = {}
    firsts: list[int] = []
    places: list[int] = []
    for row, (start, end) in enumerate(zip(counts.indptr[:-1], counts.indptr[1:], strict=True)):
        key = counts.indices[start:end].tobytes(), counts.data[start:end].tobytes()
        if key not in alike:
            alike[key] = len(firsts)
            firsts.append(row)
        places.append(alike[key])
    at_once = max(1, _MOST_CELLS // counts.shape[1])
    parts = (firsts[start : start + at_once] for start in range(0, len(firsts), at_once))
    return np.concatenate([score(total - counts[part].toarray()) for part in parts])[places]
