"""What the best score costs: its lead over the next best group, and how many times as much it takes."""

from __future__ import annotations

from dataclasses import dataclass

from peftlab.report.analysis.results import Result, Row
from peftlab.report.numbers import interval, level, listed, points
from peftlab.report.sections.cost import cost_of
from peftlab.report.statistics.comparison import FEWEST_SEEDS
from peftlab.report.statistics.crossed import difference

_KINDS = ("parameters", "memory", "time", "money")
_CALLED = {
    "parameters": "the trained parameters",
    "memory": "the memory",
    "time": "the training time",
    "money": "the money",
}
_SAME = 0.05
"""Costs that differ by a smaller share than this count as equal."""


@dataclass(frozen=True)
class Trade:
    """The best group against another: what is gained, and what is paid."""

    best: str
    other: str
    gain: float
    """How much better the mean of the best is, in units of the score; never negative."""
    low: float | None
    high: float | None
    """The interval of the gain over seeds and test sets, for this comparison alone."""
    level: float
    times: dict[str, float]
    """The cost of the best in multiples of the other's: parameters, memory, time, and money if there is a price."""


def trade_of(result: Result) -> Trade | None:
    """Return the best group against the next best; None if there is none, or if too few seeds allow no claim."""
    if len(result.ranked) < 2:
        return None
    best, other = result.ranked[:2]
    if min(len(best.measured.seeds), len(other.measured.seeds)) < FEWEST_SEEDS:
        return None
    level = result.comparison.options.level
    estimate = difference(best.measured, other.measured, paired=False, level=level)
    low, high = estimate.low, estimate.high
    gain = best.value - other.value
    if result.comparison.direction == "min":
        gain, low, high = -gain, None if high is None else -high, None if low is None else -low
    return Trade(best.name, other.name, gain, low, high, level, _times(result, best, other))


def _times(result: Result, best: Row, other: Row) -> dict[str, float]:
    price = result.comparison.options.price_per_device_hour
    one, two = cost_of(best.group, price), cost_of(other.group, price)
    costs = {
        "parameters": (one.trainable, two.trainable),
        "memory": (one.memory_gib, two.memory_gib),
        "time": (one.train_seconds, two.train_seconds),
        "money": (one.money, two.money),
    }
    return {kind: first / second for kind, (first, second) in costs.items() if first is not None and second}


def said(trade: Trade, metric: str) -> str:
    """Return the trade in words."""
    text = f"The mean of {trade.best} is {points(trade.gain, metric)} better than that of {trade.other}, the next best"
    if trade.low is not None and trade.high is not None:
        text += f" ({level(trade.level)} interval of this difference alone: "
        text += f"{interval(trade.low, trade.high, metric, True)})"
    more = [_multiple(trade, kind) for kind in _KINDS if trade.times.get(kind, 1.0) > 1 + _SAME]
    less = [_multiple(trade, kind) for kind in _KINDS if trade.times.get(kind, 1.0) < 1 - _SAME]
    if more and less:
        return f"{text}; it takes {listed(more)}, but only {listed(less)}."
    if more:
        return f"{text}; for that it takes {listed(more)}."
    if less:
        return f"{text}, and takes only {listed(less)}."
    return f"{text}, at about the same cost." if trade.times else f"{text}."


def _multiple(trade: Trade, kind: str) -> str:
    times = trade.times[kind]
    number = f"{times:,.0f}" if times >= 9.95 else f"{times:.1f}" if times >= 1 else f"{times:.2g}"
    return f"{number} times {_CALLED[kind]}"
