"""What the axes of a figure measure: units, how a number is written, and which scale suits the values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Of the data of figures: no key too many, and numbers that JSON has."""

Unit = Literal["percent", "seconds", "bytes", "count", "flops", "joules", "money", "plain"]
"""Of a percentage the values are fractions: .912 is written as 91.2."""

MINUS = "\N{MINUS SIGN}"
LOGARITHMIC_SPAN = 20
"""Positive values that span this factor or more are drawn on a logarithmic scale."""

MULTIPLES: dict[str, tuple[tuple[float, str], ...]] = {
    "seconds": ((86400, " d"), (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms")),
    "bytes": ((2**40, " TiB"), (2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    "count": ((1e9, " B"), (1e6, " M"), (1e3, " k"), (1, "")),
    "flops": ((1e18, " EFLOP"), (1e15, " PFLOP"), (1e12, " TFLOP"), (1e9, " GFLOP"), (1e6, " MFLOP"), (1, " FLOP")),
    "joules": ((3.6e6, " kWh"), (3600, " Wh"), (1, " J")),
}
"""The multiples of each unit, largest first."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Axis:
    """What an axis measures."""

    label: str
    unit: Unit = "plain"
    log: bool | None = None
    """Whether the scale is logarithmic; None: where the values ask for it, and never for percentages."""

    @property
    def title(self) -> str:
        """The label with the unit that its numbers leave out."""
        return f"{self.label} (%)" if self.unit == "percent" else self.label

    def written(self, value: float) -> str:
        """Return a value as the reader sees it at a mark."""
        return f"{written(value, self.unit)}{' %' if self.unit == 'percent' else ''}"

    def linear(self) -> Axis:
        """Return the axis with a linear scale, unless a logarithmic one is asked for."""
        return replace(self, log=bool(self.log))

    def is_logarithmic(self, values: Iterable[float]) -> bool:
        """Return whether `values` are drawn on a logarithmic scale. Zero and negative values never are."""
        known = list(values)
        if not known or min(known) <= 0 or self.log is False or (self.log is None and self.unit == "percent"):
            return False
        return bool(self.log) or max(known) >= LOGARITHMIC_SPAN * min(known)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Interval:
    """A value with its interval; without `low` and `high` the uncertainty is unknown."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval's ends; the value itself where they are unknown."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)

    def written(self, axis: Axis) -> str:
        """Return the value and its interval as the reader sees them at a mark."""
        if self.low is None or self.high is None:
            return axis.written(self.value)
        low, high = written(self.low, axis.unit), written(self.high, axis.unit)
        return f"{axis.written(self.value)} [{low}, {high}]"


def check_lengths(**lists: Sequence[object] | None) -> None:
    """Refuse lists that do not belong together; None stands for a list that is left out.

    Raises:
        ValueError: they differ in length.
    """
    lengths = {name: len(values) for name, values in lists.items() if values is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"of different lengths: {', '.join(f'{name} {length}' for name, length in lengths.items())}")


def written(value: float, unit: Unit = "plain") -> str:
    """Return a number with its unit, to three or four significant digits; a percentage has two decimals and no sign."""
    if unit == "percent":
        return f"{100 * value:.2f}".replace("-", MINUS)
    for size, name in MULTIPLES.get(unit, ()):
        if abs(value) >= size:
            return f"{_short(value / size)}{name}"
    return _short(value) + (MULTIPLES[unit][-1][1] if unit in MULTIPLES and value else "")


def ticks(value: float, unit: Unit) -> str:
    """Return a number for the tick of an axis: as short as it can be."""
    if unit == "percent":
        return f"{100 * value:.4g}".replace("-", MINUS)
    return written(value, unit)


def _short(value: float) -> str:
    """Return up to three significant digits after a thousand's integers, without needless zeros."""
    if value and not 1e-3 <= abs(value) < 1e6:
        exponent = math.floor(math.log10(abs(value)))
        return f"{value / 10**exponent:.3g}e{exponent}".replace("-", MINUS)
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", MINUS)
