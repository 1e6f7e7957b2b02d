"""What an alert says: which share has moved, by how much, since when, in which texts, and how often that is no news."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.opinion.intake import CONFIDENCE
from peftlab.opinion.series import Series
from peftlab.opinion.shares import Size
from peftlab.opinion.sinks import Alert
from peftlab.opinion.windows import Best

if TYPE_CHECKING:
    from peftlab.opinion.watching import Watch


def opened(watch: Watch, column: int, p: float, best: Mapping[tuple[Any, ...], Best]) -> Alert:
    """Return the alert that a series has opened in the window that has closed last.

    Args:
        watch: that has judged the window.
        column: of the series.
        p: the p value of the detector's statistic.
        best: the texts that are kept of the window.
    """
    assert watch.chart is not None
    assert watch.monitor is not None
    one, settings, chart = watch.chart.series[column], watch.settings, watch.chart
    rises = bool(watch.monitor.open[column] > 0)
    begun = watch.base.stop + int(watch.monitor.since[0 if rises else 1][column])
    base, later = watch.windows[watch.base], watch.windows[begun:]
    values = watch.values([*base, *later])
    size = watch.shares.moved(one, values, column, base, later)
    key: tuple[Any, ...] = one.cell or (one.name,)
    label = ""
    if one.cell:  # a share that falls: what has taken its place
        shown = one.cell[1] if rises else watch.shares.risen_most(one, base, later)
        key, label = (one.cell[0], shown, *one.cell[2:]), watch.questions[one.cell[0]].labels[shown]
    window, since = _bounds(watch, len(watch.windows) - 1), _bounds(watch, begun)["start"]
    return {
        "id": _id(watch.own, one.name, window["start"], "open"),
        "state": "open",
        "text": _sentence(one, rises, size, since, settings.level),
        "series": one.name,
        "direction": "up" if rises else "down",
        "window": window,
        "since": since,
        "share": round(size.share, 6),
        "before": round(size.before, 6),
        "size": round(size.difference, 6),
        "interval": {"low": round(size.low, 6), "high": round(size.high, 6), "level": settings.level},
        "count": int(values.n[-1, column]),
        "p": float(f"{p:.3g}"),
        "false_alarms": {
            "allowed": settings.false_alarms_per_month,
            "simulated": round(chart.calibration.rate, 4),
            "replayed": round(float(chart.replayed.sum()), 4),
            "replayed_of_series": round(float(chart.replayed[column]), 4),
        },
        "texts_of": _described(one, label),
        "texts": [text for _, _, text in best.get(key, ())],
        "notes": _warnings(chart.series, watch.monitor.open) if one.cell else [],
    }


def closed(watch: Watch, column: int, side: int) -> Alert:
    """Return what is said when the alert of a series is over, which said that it rises (1) or falls (-1)."""
    assert watch.chart is not None
    one, window = watch.chart.series[column], _bounds(watch, len(watch.windows) - 1)
    was, quiet = "above" if side > 0 else "below", watch.settings.close_after
    return {
        "id": _id(watch.own, one.name, window["start"], "closed"),
        "state": "closed",
        "closes": watch.running[one.name],
        "text": f"{one.name} is no longer {was} normal: {quiet} quiet windows until {window['end']}",
        "series": one.name,
        "window": window,
    }


def _bounds(watch: Watch, place: int) -> dict[str, str]:
    """Return when a window begins and ends, by its place among those that have closed."""
    number = (watch.first or 0) + place
    return {name: watch.clock.start(number + n).isoformat() for n, name in enumerate(("start", "end"))}


def _id(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def _sentence(one: Series, rises: bool, size: Size, since: str, level: float) -> str:
    """Return an alert in a sentence."""
    scale, unit = (1.0, "") if not one.cell else (100.0, " points")
    before, share = (f"{value:.3f}" if not one.cell else f"{100 * value:.1f} %" for value in (size.before, size.share))
    change, low, high = (f"{scale * value:+.3g}" for value in (size.difference, size.low, size.high))
    return (
        f"{one.name} {'rises' if rises else 'falls'}: from {before} to {share} ({change}{unit}, {low} to {high} at "
        f"{100 * level:g} %) since {since}"
    )


def _warnings(series: Sequence[Series], is_open: np.ndarray) -> list[str]:
    """Return what an alert on a share has to say where the texts themselves have changed.

    Args:
        series: of the watch.
        is_open: 1 where a rise is open, -1 a fall, shape (series,).
    """
    changed = [
        f"{one.name} {'is above' if side > 0 else 'is below'} normal"
        for one, side in zip(series, is_open.tolist(), strict=True)
        if not one.cell and side
    ]
    if not changed:
        return []
    return [
        f"The texts themselves have changed ({', '.join(changed)}): the classifier may err otherwise than on its test "
        "split, and the share may have moved for that alone."
    ]


def _described(one: Series, label: str) -> str:
    """Return which texts an alert shows: those with a label, within what its series is within; of a measure the most
    extreme ones."""
    if not one.cell:
        return f"the lowest {one.name}" if one.name.startswith(CONFIDENCE) else f"the highest {one.name}"
    return f"{one.asked}={label}{one.where}"
