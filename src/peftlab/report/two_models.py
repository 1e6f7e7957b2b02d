"""Two single models on the same test examples: how far apart are they, and might another test set say otherwise?

It speaks of these two models, not of the methods behind them: another seed gives another model. For methods, see
`peftlab.report.statistics.comparison`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from peftlab.errors import UserError
from peftlab.report.analysis.counts import Counted, counted
from peftlab.report.statistics.bootstrap import ScoreInterval, paired_bootstrap
from peftlab.report.statistics.measured import score_of
from peftlab.report.statistics.significance import PValue, approximate_randomisation, mcnemar_test
from peftlab.report.study import Run


@dataclass(frozen=True)
class PairedModels:
    """The test scores of two models, example by example."""

    metric: str
    difference: ScoreInterval
    """The second model's score minus the first's; its interval is over test sets like this one."""
    units: str
    """What is drawn for the interval, and swapped by the tests: ``groups`` of examples, such as documents, or
    ``examples``."""
    lost: int
    """Examples that the first model answers rightly and the second wrongly."""
    won: int
    """Examples that the second model answers rightly and the first wrongly."""
    tests: tuple[PValue, ...]
    """Approximate randomisation of the score, and, where each example stands for itself, McNemar's test of the
    flips."""


def paired_models(first: Run, second: Run) -> PairedModels:
    """Compare the test predictions of two runs by the score that selected their checkpoints.

    Raises:
        ValueError: they cannot be compared; says why.
        UserError: predictions cannot be read.
    """
    if first.metric is None or first.metric != second.metric:
        raise ValueError(f"their checkpoints were selected by different scores: {first.metric} and {second.metric}")
    one, other = _counted(first), _counted(second)
    answers, others = first.answers("test") or [], second.answers("test") or []
    if one.scorer.name != other.scorer.name:
        raise ValueError(f"their scorers differ: {one.scorer.name}, and {other.scorer.name}")
    if [(answer["id"], answer["gold"]) for answer in answers] != [(answer["id"], answer["gold"]) for answer in others]:
        raise ValueError("their test examples, or the gold answers of these, differ")
    if one.names != other.names:
        raise ValueError("their groups of test examples differ")
    if first.metric not in one.scorer.directions:
        raise ValueError(f"{first.metric} does not follow from predictions")
    score = score_of(one.scorer, first.metric)
    for run, of in ((first, one), (second, other)):
        if not np.isfinite(score(of.counts.sum(axis=0)[None])).all():
            raise ValueError(f"{first.metric} of {run.id} is no number, as where all answers are the same")
    was, now = (np.array([one.scorer.is_right(answer) for answer in of], bool) for of in (answers, others))
    tests = [approximate_randomisation(other.dense, one.dense, score)]
    if len(one.names) == one.examples:
        tests.append(mcnemar_test(was.tolist(), now.tolist()))
    return PairedModels(
        first.metric,
        paired_bootstrap(other.dense, one.dense, score),
        one.units,
        int((was & ~now).sum()),
        int((now & ~was).sum()),
        tuple(tests),
    )


def _counted(run: Run) -> Counted:
    try:
        counts = counted(run)
    except UserError:
        raise
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"the test predictions of {run.id} cannot be scored: {error}") from error
    if counts is None:
        raise ValueError(f"{run.id} has no test predictions, or a scorer of which no counts are known")
    return counts
