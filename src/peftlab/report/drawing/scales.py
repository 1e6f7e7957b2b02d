"""Where the ticks of an axis stand: at round numbers of the unit that is written, such as hours and mebibytes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from typing_extensions import override

from peftlab.report.drawing.quantities import MULTIPLES, Axis, Interval, Unit, ticks

MOST_TICKS = 7
FAR = 6.0
"""Times that the span of the middle half of the values is left beside it, before a value counts as an outlier."""
MOST = 0.1
"""Share of the values that may be outliers: more of them are a group of their own."""
FEWEST = 10
"""Values of which some may be outliers."""
CLOSE = 1.5
"""The least factor between ticks on a logarithmic scale: 50 minutes have no tick, for an hour has one."""


def measure(
    axes: Axes, direction: Literal["x", "y"], axis: Axis, values: Iterable[float | None] = (), most: int = MOST_TICKS
) -> None:
    """Set the title, the scale and at most so many ticks of an axis that shows `values`."""
    numbers = [value for value in values if value is not None]
    side = axes.xaxis if direction == "x" else axes.yaxis
    side.set_label_text(axis.title)
    if axis.is_logarithmic(numbers):
        axes.set(**{f"{direction}scale": "log"})
        side.set_major_locator(LogarithmicTicks(axis.unit))
        side.set_minor_locator(NullLocator())
    else:
        side.set_major_locator(LinearTicks(axis.unit, most))
    side.set_major_formatter(FuncFormatter(lambda value, _: ticks(value, axis.unit)))


def fit(axes: Axes, direction: Literal["x", "y"], shown: Sequence[Interval]) -> None:
    """Fit an axis to values, and to their intervals as far as these leave the values visible.

    An interval that reaches further than half the span of the values goes to the edge of the plot. A logarithmic axis
    stays as it is.
    """
    values = [one.value for one in shown]
    side = axes.xaxis if direction == "x" else axes.yaxis
    if not values or min(values) == max(values) or side.get_scale() == "log":
        return
    ends = [end for one in shown for end in one.ends]
    span = max(values) - min(values)
    low = max(min(ends), min(values) - span / 2)
    high = min(max(ends), max(values) + span / 2)
    around = 0.05 * (high - low)
    axes.set(**{f"{direction}lim": (low - around, high + around)})


def far(shown: Sequence[Interval]) -> list[Interval]:
    """Return the values that would press the others together: beyond `FAR` times the middle half of many (Tukey 1977).

    None of fewer than `FEWEST`, as any of them may be the point of the figure.
    """
    values = sorted(one.value for one in shown)
    if len(values) < FEWEST:
        return []
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    room = FAR * (high - low)
    beyond = [one for one in shown if room and not low - room <= one.value <= high + room]
    return beyond if len(beyond) <= MOST * len(shown) else []


class LinearTicks(MaxNLocator):
    """Ticks at round multiples of the largest unit that the axis reaches."""

    def __init__(self, unit: Unit, most: int) -> None:
        super().__init__(most, steps=[1, 2, 2.5, 5, 10], integer=unit == "count")
        self.unit = unit

    @override
    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        reach = max(abs(vmin), abs(vmax))
        size = next((size for size, _ in MULTIPLES.get(self.unit, ()) if reach >= 2 * size), 1.0)
        return [size * place for place in super().tick_values(vmin / size, vmax / size)]


class LogarithmicTicks(MaxNLocator):
    """Ticks at 1, 2 and 5 times the powers of ten of each unit; fewer where they would crowd."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(MOST_TICKS)
        self.sizes = sorted(size for size, _ in MULTIPLES.get(unit, ())) or [10.0**power for power in range(-12, 13)]

    @override
    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        shown = [place for place in self._places((1, 2, 5)) if vmin <= place <= vmax]
        if len(shown) > MOST_TICKS:
            shown = [place for place in self._places((1,)) if vmin <= place <= vmax]
        return shown[:: max(1, -(-len(shown) // MOST_TICKS))]

    def _places(self, steps: Sequence[int]) -> list[float]:
        """Return `steps` times the powers of ten of each unit, up to the next unit."""
        ends = [*self.sizes[1:], math.inf]
        places = {
            place
            for size, end in zip(self.sizes, ends, strict=True)
            for power in range(4)
            for step in steps
            if (place := float(f"{step * 10.0**power * size:.12g}")) * CLOSE < end
        }
        return sorted(places)
