"""How sure the scores of one run are: over test sets like its own, and over seeds. No torch."""

from __future__ import annotations

import numpy as np

from peftlab.errors import UserError
from peftlab.report.numbers import limits, possible
from peftlab.report.statistics.bootstrap import over_test_sets
from peftlab.report.statistics.comparison import FEWEST_SEEDS
from peftlab.report.statistics.means import mean
from peftlab.report.statistics.measured import counts_of_clusters, pseudo_values, score_of
from peftlab.runs.folder import RunFolder, read_predictions
from peftlab.runs.other_seeds import other_seeds
from peftlab.scores.scorer import Scorer
from peftlab.use.card import UNKNOWN, Certainty, Interval

_SPLIT = "test"
"""The split that nothing was chosen on."""

_LEVEL = 0.95


def certainty(folder: RunFolder, scorer: Scorer) -> Certainty:
    """Return what the predictions of a run, and the runs beside it, say of how sure its test scores are.

    The intervals are the jackknife's over the groups of the test examples, such as documents, or over the examples if
    the data has no groups. What cannot be read says nothing: it is unknown.

    Args:
        folder: the run folder.
        scorer: the scorer of its task, which knows its labels.
    """
    intervals, drawn_from = _over_test_sets(folder, scorer)
    return Certainty(intervals, drawn_from, _over_seeds(folder))


def _over_test_sets(folder: RunFolder, scorer: Scorer) -> tuple[tuple[Interval, ...], str]:
    try:
        rows = read_predictions(folder.predictions / f"{_SPLIT}.jsonl")
        groups = [row.get("group") for row in rows]
        grouped = bool(rows) and all(isinstance(group, str) for group in groups)
        clusters = counts_of_clusters(scorer, rows, groups if grouped else [None] * len(rows))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return (), UNKNOWN
    number, counting = clusters.shape[0], len(np.unique(clusters.nonzero()[0]))
    if number < 2:
        return (), UNKNOWN
    intervals = []
    for name in scorer.directions:
        over = over_test_sets(pseudo_values(clusters, score_of(scorer, name)), _LEVEL, limits(name), counting)
        if over.low is not None and over.high is not None:
            intervals.append(Interval(_SPLIT, name, over.low, over.high, _LEVEL))
    if grouped:
        return tuple(intervals), f"{number:,} groups of examples of the {_SPLIT} split"
    return tuple(intervals), f"{number:,} examples of the {_SPLIT} split, whose data names no documents"


def _over_seeds(folder: RunFolder) -> str:
    metric = folder.record.data["selection"]["metric"]
    try:
        records = [folder.record, *other_seeds(folder).values()]
    except (UserError, LookupError, TypeError):
        return UNKNOWN
    scores = [score for record in records if (score := record.score(_SPLIT, metric)) is not None]
    if len(scores) < FEWEST_SEEDS:
        return f"{UNKNOWN}: beside it are fewer than {FEWEST_SEEDS - 1} runs that differ from it in the seed alone"
    over = mean(scores, _LEVEL)
    low, high = possible(over.low, over.high, metric)
    return (
        f"{len(scores)} runs that differ in the seed alone have a mean {_SPLIT} {metric} of {over.value:.4f}, standard "
        f"deviation {over.sd:.4f}; the {_LEVEL:.0%} interval of the mean is {low:.4f} to {high:.4f}"
    )
