"""The comparison of two methods: all that may be said, and the verdict.

The difference is tested by Student's t with the variances of seeds and test set together
(`peftlab.report.statistics.crossed`). Whether it holds its level, and what it can show, is measured in
``experiments/report_statistics``. The other tests stand beside it for whoever expects them; none of them decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from peftlab.report.statistics.crossed import Components, Estimate, components_of_difference, difference
from peftlab.report.statistics.dominance import Dominance, almost_stochastic_order
from peftlab.report.statistics.improvement import Improvement, probability_of_improvement
from peftlab.report.statistics.measured import Measured
from peftlab.report.statistics.power import Needed, minimum_detectable_effect, needed
from peftlab.report.statistics.significance import PValue, permutation, sign_flip, welch
from peftlab.scores.paired import holm
from peftlab.scores.scorer import Direction

Says = Literal["better", "worse", "tie", "not told apart", "no claim"]

FEWEST_SEEDS = 3
"""With fewer, nothing is claimed."""


@dataclass(frozen=True)
class Verdict:
    """What may be claimed of the first method against the second."""

    says: Says
    because: str
    """The reason, in plain words."""


@dataclass(frozen=True)
class Comparison:
    """Two methods on one test set."""

    first: str
    second: str
    direction: Direction
    difference: Estimate
    """The first method's mean score minus the second's."""
    paired: bool
    """Whether seeds were paired."""
    p: float | None
    """Of the hypothesis that the difference is 0; None for a single seed without pseudo-values."""
    p_adjusted: float | None
    """The same adjusted for the family (Holm 1979)."""
    family: int
    """How many comparisons the claim is one of."""
    margin: float | None
    """Differences up to it do not matter; None: not stated."""
    equivalence_p: float | None
    """Of the hypothesis that the difference is beyond the margin (two one-sided tests, Schuirmann 1987), adjusted."""
    detectable: float | None
    """The smallest true difference that such a comparison, alone, shows with probability .8; None where nothing varies,
    so that nothing is known about how much it could."""
    tests: tuple[PValue, ...]
    improvement: Improvement
    dominance: Dominance | None
    split: Components | None
    """The variance of the difference, split into seeds, clusters and rest; None where it cannot be."""
    needed: Needed | None
    """The seeds or clusters from which on a difference as large as the margin is shown; None without a margin, and
    where nothing varies."""
    verdict: Verdict


def compare(
    first: Measured,
    second: Measured,
    direction: Direction = "max",
    margin: float | None = None,
    level: float = 0.95,
    paired: bool = False,
) -> Comparison:
    """Compare two methods.

    Args:
        first: a method.
        second: another on the same test set, such as the baseline.
        direction: which scores are better.
        margin: the largest difference that does not matter, in units of the score. If the interval lies within it, the
            verdict is a tie, even where the difference is certain.
        level: probability of the interval; a claim is made at a risk of 1 - level.
        paired: whether to subtract seed by seed. That pays only if a seed has much in common in both methods: if it
            draws the training examples, say. Where it draws the order of batches and the new weights, it has not: over
            53 methods of ``experiments/method_axis``, the correlation of seeds is .01.

    Raises:
        ValueError: a method has no run, the clusters differ, or seeds cannot be paired; the margin is not positive.
    """
    return _judged([_compared(first, second, direction, margin, level, paired)], level)[0]


def compare_all(
    methods: Sequence[Measured],
    baseline: str,
    direction: Direction = "max",
    margin: float | None = None,
    level: float = 0.95,
    paired: bool = False,
) -> list[Comparison]:
    """Compare every other method with the baseline, adjusted for the number of comparisons (Holm 1979).

    Methods with fewer than 3 seeds are no part of the family, as nothing is claimed of them.

    Args:
        methods: all methods, on one test set.
        baseline: the name of the one that the others are compared with.
        direction: which scores are better.
        margin: see `compare`.
        level: probability of the intervals; any false claim is made at a risk of 1 - level. The intervals themselves
            are not adjusted.
        paired: see `compare`.

    Raises:
        ValueError: no method has the baseline's name; see also `compare`.
    """
    second = next((method for method in methods if method.name == baseline), None)
    if second is None:
        raise ValueError(f"no method is named {baseline!r}; there are {', '.join(method.name for method in methods)}")
    others = [method for method in methods if method.name != baseline]
    return _judged([_compared(first, second, direction, margin, level, paired) for first in others], level)


def _compared(
    first: Measured, second: Measured, direction: Direction, margin: float | None, level: float, paired: bool
) -> Comparison:
    if margin is not None and not margin > 0:
        raise ValueError(f"the margin is {margin}; a difference that does not matter is greater than 0")
    estimate = difference(first, second, paired, level)
    split = _split(first, second, paired)
    p, one, other = estimate.p(), first.scores.tolist(), second.scores.tolist()
    several, lower = min(len(one), len(other)) >= 2, direction == "min"
    return Comparison(
        first=first.name,
        second=second.name,
        direction=direction,
        difference=estimate,
        paired=paired,
        p=p,
        p_adjusted=p,
        family=1,
        margin=margin,
        equivalence_p=None if margin is None else equivalence(estimate, margin),
        detectable=_detectable(estimate, level),
        tests=_tests(first, second) if several else (),
        improvement=probability_of_improvement(one, other, level, lower),
        dominance=almost_stochastic_order(one, other, lower_is_better=lower) if several else None,
        split=split,
        needed=None
        if margin is None or split is None or not estimate.se
        else needed(split, margin, 1 - level, paired=paired),
        verdict=Verdict("no claim", ""),
    )


def equivalence(estimate: Estimate, margin: float) -> float | None:
    """Return the p value of the hypothesis that the true difference is at least `margin` in size.

    It is the larger one of two one-sided t tests (Schuirmann 1987). It is below (1 - level)/2 if and only if the
    interval of that level lies within the margin. None without a standard error; 1 where nothing varies.
    """
    if estimate.se is None or estimate.df is None:
        return None
    if not estimate.se:
        return 1.0
    from scipy.special import stdtr

    return float(stdtr(estimate.df, (abs(estimate.value) - margin) / estimate.se))


def _split(first: Measured, second: Measured, paired: bool) -> Components | None:
    one, other = first.pseudo_values, second.pseudo_values
    if one is None or other is None or min(*one.shape, *other.shape) < 2:
        return None
    if paired:
        order, partner = (sorted(range(len(m.seeds)), key=m.seeds.__getitem__) for m in (first, second))
        return components_of_difference(one[order], other[partner], paired)
    return components_of_difference(one, other, paired)


def _detectable(estimate: Estimate, level: float) -> float | None:
    if not estimate.se or estimate.df is None:
        return None
    return minimum_detectable_effect(estimate.se, estimate.df, 1 - level)


def _tests(first: Measured, second: Measured) -> tuple[PValue, ...]:
    one, other = first.scores.tolist(), second.scores.tolist()
    tests = (welch(one, other), permutation(one, other))
    if sorted(first.seeds) != sorted(second.seeds):
        return tests
    partner = dict(zip(second.seeds, other, strict=True))
    return *tests, sign_flip([score - partner[seed] for seed, score in zip(first.seeds, one, strict=True)])


def _judged(comparisons: Sequence[Comparison], level: float) -> list[Comparison]:
    """Return the comparisons with p values adjusted for the family of those that may claim something, and verdicts."""
    family = [one for one in comparisons if one.difference.seeds >= FEWEST_SEEDS]
    adjusted = iter(holm([1.0 if one.p is None else one.p for one in family]))
    equal = iter(holm([1.0 if one.equivalence_p is None else one.equivalence_p for one in family]))
    judged = []
    for comparison in comparisons:
        one = comparison
        if one.difference.seeds >= FEWEST_SEEDS:
            p, tied = next(adjusted), next(equal)
            one = replace(one, p_adjusted=p, equivalence_p=None if one.margin is None else tied, family=len(family))
        judged.append(replace(one, verdict=_verdict(one, 1 - level)))
    return judged


def _verdict(one: Comparison, risk: float) -> Verdict:
    about = one.difference
    if about.seeds < FEWEST_SEEDS:
        runs = "1 run" if about.seeds == 1 else f"{about.seeds} runs"
        return Verdict("no claim", f"one of the two has {runs}; with fewer than {FEWEST_SEEDS} nothing can be claimed")
    if not about.se:
        return Verdict("not told apart", "the runs do not differ at all, so that their uncertainty is unknown")
    only = "" if about.covers == "seeds and test set" else "; on this test set only, as its uncertainty is unknown"
    if one.margin is not None and one.equivalence_p is not None and one.equivalence_p <= risk / 2:
        return Verdict("tie", f"the difference is smaller than the margin of {one.margin:g}{only}")
    if one.p_adjusted is not None and one.p_adjusted <= risk:
        says: Says = "better" if (about.value > 0) == (one.direction == "max") else "worse"
        return Verdict(says, f"p = {one.p_adjusted:.2g}{only}")
    return Verdict(
        "not told apart",
        f"p = {one.p_adjusted:.2g}; a true difference of less than {one.detectable:.2g} would often be missed{only}",
    )
