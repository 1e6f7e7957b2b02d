"""The predictions of a run as counts that add up, for each cluster of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.report.analysis.options import Cluster
from peftlab.report.statistics.measured import cluster_counts
from peftlab.report.study import Run
from peftlab.scores.paired import counts_of
from peftlab.scores.scorer import Scorer


@dataclass(frozen=True)
class Counted:
    """What a run's predictions add to its scores."""

    counts: np.ndarray
    """Shape (clusters, width): the counts of the scorer, summed over each cluster, in order of first appearance."""
    names: tuple[str, ...]
    """The clusters: what has to be the same in runs that are compared."""
    units: str
    """``groups`` or ``examples``."""
    examples: int
    scorer: Scorer


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
    counts = cluster_counts(counts_of(scorer, answers), names)
    return Counted(counts, tuple(dict.fromkeys(names)), "groups" if grouped else "examples", len(answers), scorer)


def joined(parts: Sequence[Counted]) -> Counted:
    """Return the counts of several test splits, such as the folds of a cross-validation, as those of one.

    A cluster that is in several of them, which folds rule out, counts once in each.
    """
    first, *others = parts
    if not others:
        return first
    return Counted(
        np.concatenate([part.counts for part in parts]),
        tuple(name for part in parts for name in part.names),
        first.units,
        sum(part.examples for part in parts),
        first.scorer,
    )
