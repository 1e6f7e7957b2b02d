"""Two models' answers to the same examples: which flip, and whether as many flip back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from peftlab.report.statistics.bootstrap import paired_bootstrap
from peftlab.report.statistics.measured import cluster_counts, score_of
from peftlab.report.statistics.significance import approximate_randomisation, mcnemar_test
from peftlab.scores.paired import counts_of
from peftlab.scores.scorer import Scorer
from peftlab.use.examples import units_of
from peftlab.use.robustness.victim import Judged

LISTED = 20
"""Examples that are listed: those whose loss changes most."""


@dataclass(frozen=True)
class ChangedExample:
    """An example, and what both models answer."""

    id: str
    input: Any
    gold: Any
    before: Any
    after: Any
    flip: Literal["lost", "won"] | None
    """Whether the right answer is lost or won; None: both are right, or both wrong."""
    loss: float
    """The change of the task's loss on the example; positive: the second model is further from the gold."""


@dataclass(frozen=True)
class Flips:
    """The answers of two models to the same examples."""

    examples: int
    metric: str
    before: float
    """The first model's score."""
    after: float
    difference: float
    """The second model's score minus the first's."""
    low: float | None
    """The ends of its interval, a paired bootstrap over `units`; None: there is only one."""
    high: float | None
    units: str
    """What is drawn and swapped: ``groups`` of examples, such as documents, or ``examples``."""
    lost: int
    """Examples that the first model answers rightly and the second wrongly."""
    won: int
    """Examples that the second model answers rightly and the first wrongly."""
    test: str
    """McNemar's test of the flips; approximate randomisation of the score where examples are grouped, as they then
    flip together."""
    p: float
    changed: list[ChangedExample]


def flips(scorer: Scorer, metric: str, examples: Sequence[Any], pairs: Sequence[tuple[Judged, Judged]]) -> Flips:
    """Compare what two models answer to `examples`, which have gold.

    Args:
        scorer: the scorer of the task.
        metric: one of its scores.
        examples: the examples.
        pairs: for each, what both models have answered.
    """
    names, units = units_of(examples)
    before, after = (
        cluster_counts(counts_of(scorer, [one.answer for one in of]), names) for of in zip(*pairs, strict=True)
    )
    score = score_of(scorer, metric)
    interval = paired_bootstrap(after, before, score)
    if len(set(names)) < len(names):
        test = approximate_randomisation(after, before, score)
    else:
        test = mcnemar_test([one.right for one, _ in pairs], [other.right for _, other in pairs])
    changed = sorted(map(_changed, pairs), key=lambda one: -abs(one.loss))
    kinds = [_flip(*pair) for pair in pairs]
    return Flips(
        examples=len(examples),
        metric=metric,
        before=float(score(before.sum(axis=0)[np.newaxis])[0]),
        after=float(score(after.sum(axis=0)[np.newaxis])[0]),
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        units=units,
        lost=kinds.count("lost"),
        won=kinds.count("won"),
        test=test.name,
        p=test.p,
        changed=changed[:LISTED],
    )


def _flip(before: Judged, after: Judged) -> Literal["lost", "won"] | None:
    if before.right == after.right:
        return None
    return "lost" if before.right else "won"


def _changed(pair: tuple[Judged, Judged]) -> ChangedExample:
    before, after = pair
    answer = before.answer
    return ChangedExample(
        id=str(answer["id"]),
        input=answer.get("input"),
        gold=answer.get("gold"),
        before=answer.get("predicted"),
        after=after.answer.get("predicted"),
        flip=_flip(*pair),
        loss=after.loss - before.loss,
    )
