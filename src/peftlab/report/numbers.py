"""How a report writes numbers: one habit everywhere, so that tables, sentences and figures agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "\u2013"
"""A dash, where a number is not known."""

_MINUS = "\u2212"

_SHARES = ("f1", "accuracy", "precision", "recall", "exact_match", "hamming_loss")

_LIMITS = {
    "perplexity": (1.0, math.inf),
    **dict.fromkeys(("pearson", "spearman"), (-1.0, 1.0)),
    **dict.fromkeys(("rmse", "mae", "log_loss", "wer", "cer", "mean_length"), (0.0, math.inf)),
    **dict.fromkeys(("brier", "ndcg", "hit", "mrr", "rouge1", "rouge2", "rougeL"), (0.0, 1.0)),
    **dict.fromkeys(("auc", "gauc", "chance", "guessing", "stop_rate"), (0.0, 1.0)),
    **dict.fromkeys(("bleu", "chrf"), (0.0, 100.0)),
}
"""The least and the largest values of scores that are not written in percent, by name without ``cold_`` and what
follows ``@``."""


def is_share(metric: str) -> bool:
    """Return whether a score lies between 0 and 1, and is therefore written in percent."""
    name = metric.partition("/")[0]
    return any(share in name for share in _SHARES)


def limits(metric: str) -> tuple[float, float]:
    """Return the least and the largest value that a score can have, infinite where none is known."""
    name = metric.partition("/")[0].partition("@")[0].removeprefix("cold_")
    return (0.0, 1.0) if is_share(metric) else _LIMITS.get(name, (-math.inf, math.inf))


def possible(low: float | None, high: float | None, metric: str) -> tuple[float | None, float | None]:
    """Return the ends of an interval without values that the score cannot have."""
    least, most = limits(metric)
    return None if low is None else max(low, least), None if high is None else min(high, most)


def called(metric: str) -> str:
    """Return the name of a score as a reader knows it, such as ``entity F1``."""
    name, _, of = metric.partition("/")
    words = " ".join("F1" if word == "f1" else word for word in name.split("_"))
    return f"{words} of {of}" if of else words


def score(value: float | None, metric: str, signed: bool = False) -> str:
    """Return a score: shares in percent with two decimals, others with four."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    sign = "+" if signed else ""
    text = f"{100 * value:{sign}.2f}" if is_share(metric) else f"{value:{sign}.4f}"
    return text.replace("-", _MINUS)


def interval(low: float | None, high: float | None, metric: str, signed: bool = False) -> str:
    """Return ``83.20 to 85.01``, which stays on one line."""
    if low is None or high is None:
        return UNKNOWN
    return f"{score(low, metric, signed)}\u00a0to\u00a0{score(high, metric, signed)}"


def unit(metric: str) -> str:
    """Return ``%`` for shares, else nothing."""
    return "%" if is_share(metric) else ""


def with_unit(value: float | None, metric: str, signed: bool = False) -> str:
    """Return ``84.12 %`` for a share."""
    text = score(value, metric, signed)
    return f"{text} %" if is_share(metric) and text != UNKNOWN else text


def points(value: float | None, metric: str) -> str:
    """Return a difference without its sign: ``0.50 points`` for a share."""
    text = score(value, metric)
    return f"{text} points" if is_share(metric) and text != UNKNOWN else text


def p_value(value: float | None) -> str:
    """Return a p value with two digits, from ``< .001`` to ``> .999``."""
    if value is None:
        return UNKNOWN
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 0.9995 else "> .999"


def share(value: float | None) -> str:
    """Return a share in percent with two digits that matter, such as ``0.026 %``."""
    if value is None:
        return UNKNOWN
    percent = 100 * value
    if percent < 0.001:
        return "0 %" if percent < 1e-9 else "< 0.001 %"
    return f"{percent:.1f} %".replace("100.0", "100") if percent >= 9.95 else f"{percent:.2g} %"


def level(value: float) -> str:
    """Return the level of an interval, such as ``95 %``."""
    return f"{100 * value:g} %"


def count(value: float | None) -> str:
    """Return a whole number with separators."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Return ``41 s``, ``3.4 min`` or ``2.1 h``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def flops(value: float | None) -> str:
    """Return ``2.63 TFLOP``, the number of floating-point operations."""
    return (
        UNKNOWN
        if value is None
        else scaled(value, (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)), "FLOP")
    )


def size(value: float | None) -> str:
    """Return a number of bytes as ``1.3 MB``."""
    return UNKNOWN if value is None else scaled(value, (("G", 1e9), ("M", 1e6), ("k", 1e3)), "B")


def scaled(value: float, prefixes: Sequence[tuple[str, float]], unit: str) -> str:
    """Return `value` with three digits, or all before the point, and the first prefix that is not larger."""
    factor, prefix = next(((factor, prefix) for prefix, factor in prefixes if value >= 0.9995 * factor), (1.0, ""))
    shown = value / factor
    if shown >= 999.5:
        return f"{shown:,.0f} {prefix}{unit}"
    text = f"{shown:#.3g}".rstrip(".") if unit == "FLOP" and value else f"{shown:.3g}"
    return f"{text} {prefix}{unit}"


def gib(value: float | None) -> str:
    """Return a number of GiB."""
    return UNKNOWN if value is None else f"{value:.2f} GiB"


def energy(joules: float | None) -> str:
    """Return watt-hours, such as ``12.5 Wh`` or ``1.2 kWh``."""
    return UNKNOWN if joules is None else scaled(joules / 3600, (("M", 1e6), ("k", 1e3)), "Wh")


def money(value: float | None) -> str:
    """Return an amount with two decimals, more where it is small."""
    return UNKNOWN if value is None else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return ``1 run`` or ``3 runs``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return ``a, b and c``; of many, the first and how many more."""
    if len(names) > most + 1:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
