"""The predictions of a run as counts that add up, for each cluster of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from peftlab.report.analysis.options import Cluster
from peftlab.report.statistics.measured import counts_of_clusters
from peftlab.report.study import Run
from peftlab.scores.scorer import Scorer

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Counted:
    """What a run's predictions add to its scores."""

    counts: np.ndarray | csr_array
    """Shape (clusters, width): the counts of the scorer, summed over each cluster, in order of first appearance."""
    names: tuple[str, ...]
    """The clusters: what has to be the same in runs that are compared."""
    units: str
    """``groups`` or ``examples``."""
    examples: int
    scorer: Scorer

    @property
    def counting(self) -> int:
        """How many clusters have anything that is counted."""
        return len(np.unique(self.counts.nonzero()[0]))

    @property
    def dense(self) -> np.ndarray:
        """The counts with all their zeros, as who resamples them needs them."""
        return self.counts if isinstance(self.counts, np.ndarray) else self.counts.toarray()


def counted(run: Run, cluster: Cluster = "auto") -> Counted | None:
    """Return the counts of a run's test predictions; None if it kept none, or if its scorer is unknown.

    Raises:
        UserError: the predictions cannot be read.
        ValueError: an answer cannot be scored, or `cluster` is ``group`` and an example has none.
    """
    if (scorer := run.scorer) is None or not (answers := run.answers("test")):
        return None
    groups = [answer.get("group") for answer in answers]
    grouped = cluster == "group" or (cluster == "auto" and all(group is not None for group in groups))
    if grouped and None in groups:
        raise ValueError("some test examples have no group; --cluster example takes each for itself")
    names = [str(group) for group in groups] if grouped else [str(answer.get("id")) for answer in answers]
    counts = counts_of_clusters(scorer, answers, names)
    return Counted(counts, tuple(dict.fromkeys(names)), "groups" if grouped else "examples", len(answers), scorer)


def joined(parts: Sequence[Counted]) -> Counted:
    """Return the counts of several test splits, such as the folds of a cross-validation, as those of one.

    A cluster that is in several of them, which folds rule out, counts once in each.
    """
    first, *others = parts
    if not others:
        return first
    counts = [part.counts for part in parts]
    return Counted(
        np.concatenate(counts) if isinstance(first.counts, np.ndarray) else _stacked(counts),
        tuple(name for part in parts for name in part.names),
        first.units,
        sum(part.examples for part in parts),
        first.scorer,
    )


def _stacked(counts: Sequence[csr_array]) -> csr_array:
    from scipy.sparse import vstack

    return vstack(counts, format="csr")
