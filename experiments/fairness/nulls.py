"""How often is a gap claimed between equal groups, how often is a real one found, and do the intervals cover?

    python experiments/fairness/nulls.py [--sets 2000] [--fairlearn 25]

Every line is a design. ``claimed`` is the share of simulated test sets with equal groups and p <= .05, ``power`` that
of sets whose farthest groups are as far apart as the gap that is stated as detectable, ``covers`` how often the 95 %
interval holds the true gap (equal; apart), ``gap`` the mean gap of equal groups beside the expected one that is stated
and beside d_K sqrt(p(1-p)/n), ``debiased`` the mean of two debiased gaps, as a share of the true one: the root of the
squared gap less its mean square among equal groups, which is what is reported, and the gap less its mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from peftlab.report.statistics.gaps import Gap, gap
from peftlab.report.statistics.measures import Measure, Ratio

D = {2: 1.128, 5: 2.326, 10: 3.078}
"""The expected range of K standard normal numbers (Tippett 1925)."""

Data = tuple[Measure, np.ndarray, np.ndarray]
"""A measure, the group of each row and its cluster."""


@dataclass(frozen=True)
class Design:
    """How test sets are drawn."""

    name: str
    groups: int
    draw: Callable[[np.random.Generator, float], Data]
    """Draws a test set whose first and last group are so far apart, the others in the middle."""
    closed: float | None = None
    """The mean gap of equal groups, where there is a formula."""


def rates(groups: int, sizes: list[int], rate: float) -> Callable[[np.random.Generator, float], Data]:
    """Return how to draw independent answers, right with probability `rate`."""
    of = np.repeat(np.arange(groups), sizes)

    def draw(random: np.random.Generator, apart: float) -> Data:
        right = random.random(len(of)) < _rates(groups, rate, apart)[of]
        return Ratio("accuracy", right.astype(float), np.ones(len(of))), of, np.arange(len(of))

    return draw


def f1(groups: int, size: int) -> Callable[[np.random.Generator, float], Data]:
    """Return how to draw answers with equal F1, though the groups have the label more or less often."""
    of = np.repeat(np.arange(groups), size)
    base = np.linspace(0.2, 0.6, groups)[of]

    def draw(random: np.random.Generator, apart: float) -> Data:
        recall = _rates(groups, 0.8, apart)[of]
        gold = random.random(len(of)) < base
        # as many false alarms as misses, on average: F1 equals recall
        predicted = np.where(
            gold, random.random(len(of)) < recall, random.random(len(of)) < base * (1 - recall) / (1 - base)
        )
        return Ratio("f1", 2.0 * (gold & predicted), gold + predicted.astype(float)), of, np.arange(len(of))

    return draw


def documents(groups: int, number: int, size: int, mixed: bool) -> Callable[[np.random.Generator, float], Data]:
    """Return how to draw the sentences of documents, some of which are hard; a document has one group, or all."""
    clusters = np.repeat(np.arange(number), size)

    def draw(random: np.random.Generator, apart: float) -> Data:
        hard = random.normal(0, 0.08, number)[clusters]
        of = random.integers(0, groups, len(clusters)) if mixed else (np.arange(number) % groups)[clusters]
        right = random.random(len(of)) < np.clip(_rates(groups, 0.8, apart)[of] + hard, 0, 1)
        return Ratio("accuracy", right.astype(float), np.ones(len(of))), of, clusters

    return draw


def _rates(groups: int, middle: float, apart: float) -> np.ndarray:
    """Return the rate of each group: the highest one is .99 at most, the lowest so far below it."""
    highest = min(middle + apart / 2, 0.99)
    values = np.full(groups, highest - apart / 2)
    values[0], values[-1] = highest - apart, highest
    return values


def run(design: Design, sets: int, seed: int = 0) -> str:
    """Return what a design shows, as a line."""
    start = time.perf_counter()
    random = np.random.default_rng(seed)
    nulls = [_gap(design, random, 0.0, number) for number in range(sets)]
    truth = float(np.median([one.detectable for one in nulls if one.detectable is not None]))
    apart = [_gap(design, random, truth, number) for number in range(sets // 4)]
    claimed, power = (np.mean([one.p is not None and one.p <= 0.05 for one in of]) for of in (nulls, apart))
    covers = [
        np.mean([one.low <= true <= one.high for one in of if one.low is not None and one.high is not None])
        for of, true in ((nulls, 0.0), (apart, truth))
    ]
    roots, rests = [_mean([f(one) for one in apart]) / truth for f in (_root, _rest)]
    closed = "" if design.closed is None else f" / {design.closed:.4f}"
    return (
        f"{design.name:44} claimed {claimed:.4f}  detectable {truth:.3f} power {power:.3f}  covers {covers[0]:.3f} "
        f"{covers[1]:.3f}  gap {_mean([one.value for one in nulls]):.4f} / {_mean([one.expected for one in nulls]):.4f}"
        f"{closed}  debiased {roots:.3f} {rests:.3f}  {time.perf_counter() - start:.0f} s"
    )


def _gap(design: Design, random: np.random.Generator, apart: float, seed: int) -> Gap:
    measure, groups, clusters = design.draw(random, apart)
    names = [str(number) for number in range(design.groups)]
    one = gap(measure, groups, names, clusters, fewest=1, draws=399, seed=seed)
    assert one is not None
    return one


def _root(one: Gap) -> float:
    return one.debiased or 0.0


def _rest(one: Gap) -> float:
    return max(0.0, one.value - (one.expected or 0.0))


def _mean(values: list) -> float:
    return float(np.mean(values))


def fairlearn(groups: int, sets: int, seed: int = 0) -> str:
    """Return how often the library's bootstrap interval of the gap leaves 0 out, though the groups are equal."""
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    random, of = np.random.default_rng(seed), np.repeat(np.arange(groups), 100)
    above = 0
    for number in range(sets):
        right = (random.random(len(of)) < 0.8).astype(int)
        frame = MetricFrame(
            metrics=accuracy_score,
            y_true=np.ones_like(right),
            y_pred=right,
            sensitive_features=of,
            n_boot=100,
            ci_quantiles=[0.025, 0.975],
            random_state=number,
        )
        above += frame.difference_ci()[0] > 0
    return f"fairlearn's difference_ci, {groups} equal groups of 100: leaves 0 out in {above} of {sets}"


def designs() -> list[Design]:
    """Return all designs."""
    equal = [
        Design(f"accuracy .8, {k} groups of 100", k, rates(k, [100] * k, 0.8), D[k] * np.sqrt(0.8 * 0.2 / 100))
        for k in D
    ]
    return [
        *equal,
        Design("accuracy .95, groups of 20, 40, 80, 160, 320", 5, rates(5, [20, 40, 80, 160, 320], 0.95)),
        Design("F1 .8, 3 groups of 150, label in 20 to 60 %", 3, f1(3, 150)),
        Design("60 documents of 10, each of 1 of 3 groups", 3, documents(3, 60, 10, mixed=False)),
        Design("60 documents of 10, 3 groups in each", 3, documents(3, 60, 10, mixed=True)),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--fairlearn", type=int, default=25)
    options = parser.parse_args()
    for each in designs():
        print(run(each, options.sets), flush=True)
    for number in D if options.fairlearn else ():
        print(fairlearn(number, options.fairlearn), flush=True)
