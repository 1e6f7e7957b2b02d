"""The page of a watch: its curves with bands, its alerts with their texts, and what became of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from peftlab.opinion.series import Series, Values
from peftlab.opinion.watching import Watch
from peftlab.report import html
from peftlab.report.document import (
    Block,
    Cell,
    Column,
    Document,
    Figure,
    Finding,
    Findings,
    Listing,
    Paragraph,
    Section,
    Table,
    link_names,
)

MOST_FIGURES = 24
"""Groups of series that are drawn: those with alerts come first."""
MOST_ALERTS = 50
"""The newest alerts whose texts are shown."""


def write(watch: Watch) -> Path:
    """Write ``report.html`` in the folder of a watch, and return the file."""
    return html.write(document(watch), watch.folder)


def document(watch: Watch) -> Document:
    """Return what a watch has found."""
    name = watch.folder.resolve().name
    sections = [Section("alerts", "Alerts", tuple(_alerts(watch)))]
    if watch.chart is not None:
        sections.append(Section("curves", "Curves", tuple(_curves(watch))))
        sections.append(Section("calibration", "False alarms", tuple(_calibration(watch))))
    sections.append(Section("stream", "The stream", tuple(_stream(watch))))
    return Document(name, f"{len(watch.windows):,} windows, {watch.counts.rows:,} rows", sections)


def remarks(watch: Watch) -> list[str]:
    """Return what is wrong with a stream as a whole: a line without an end, or a clock far behind most rows."""
    rows, clocked = watch.counts.rows, watch.clocked
    said = []
    if watch.unfinished:
        said.append(
            "the last row of the stream has no end yet, a line break or a quotation mark: it waits for the next call, "
            "or for --final"
        )
    if clocked.newest is not None and 2 * clocked.ahead > rows:
        newest = datetime.fromtimestamp(clocked.newest, UTC).isoformat(" ", "seconds")
        said.append(
            f"{clocked.ahead:,} of {rows:,} rows are set aside: they lie more than {clocked.jump} windows after "
            f"{newest}, the newest time that counts. If that time is wrong, mend or remove its row, mostly the first; "
            "if the stream did pause so long, set a larger `jump`. Then begin again in another folder (--out)"
        )
    return said


def _alerts(watch: Watch) -> Iterator[Block]:
    opened = [alert for alert in watch.alerts if alert["state"] == "open"]
    if watch.chart is None:
        yield Paragraph(f"The baseline is not complete: {len(watch.windows)} windows have closed.")
        return
    if not opened:
        yield Paragraph("No series has moved.")
        return
    over = {alert["closes"]: alert["window"]["end"] for alert in watch.alerts if alert["state"] == "closed"}
    columns = ("series", "window", "from", "to", "change", "interval", "texts", "p", "over")
    rows = [
        (
            Cell(alert["series"]),
            Cell(_short(alert["window"]["start"])),
            Cell(f"{alert['before']:.3f}", alert["before"]),
            Cell(f"{alert['share']:.3f}", alert["share"]),
            Cell(f"{alert['size']:+.3f}", alert["size"]),
            Cell(f"{alert['interval']['low']:+.3f} to {alert['interval']['high']:+.3f}"),
            Cell(f"{alert['count']:,}", alert["count"]),
            Cell(f"{alert['p']:.2g}", alert["p"]),
            Cell(_short(over[alert["id"]]) if alert["id"] in over else "open"),
        )
        for alert in reversed(opened)
    ]
    numeric = {"from", "to", "change", "texts", "p"}
    yield Table(
        "alerts",
        tuple(Column(name, numeric=name in numeric) for name in columns),
        tuple(rows),
        f"Alerts, the newest first; the interval is of the change, at {100 * watch.settings.level:g} %",
    )
    for alert in list(reversed(opened))[:MOST_ALERTS]:
        yield Paragraph(alert["text"])
        if alert["notes"]:
            yield Findings(tuple(Finding("texts_changed", "warning", note) for note in alert["notes"]))
        if alert["texts"]:
            yield Listing((f"# {alert['texts_of']}", *(" ".join(text.split()) for text in alert["texts"])))


def _curves(watch: Watch) -> Iterator[Block]:
    assert watch.chart is not None
    groups: dict[str, list[int]] = {}
    for column, one in enumerate(watch.chart.series):
        groups.setdefault(one.group, []).append(column)
    alerted = {alert["series"] for alert in watch.alerts}

    def rank(group: str) -> tuple[bool, bool]:
        columns = [watch.chart.series[n] for n in groups[group]]  # type: ignore[union-attr]
        return not alerted & {one.name for one in columns}, len(columns[0].cell) > 2

    shown = sorted(groups, key=rank)
    values = watch.values(watch.windows)
    names = link_names(shown)
    for group in shown[:MOST_FIGURES]:
        yield Figure(
            names[group],
            "shares_over_time",
            _data(watch, values, groups[group]),
            f"{group}, window by window; grey: the baseline",
        )
    if left := shown[MOST_FIGURES:]:
        yield Paragraph(f"Not drawn, without alerts: {', '.join(left)}.")


def _data(watch: Watch, values: Values, columns: Sequence[int]) -> dict[str, Any]:
    assert watch.chart is not None
    series = [watch.chart.series[n] for n in columns]
    starts = [watch.clock.start((watch.first or 0) + n) for n in range(len(watch.windows))]
    share, low, high = _shown(watch, values, series, columns)
    blank = values.n[:, columns] < watch.settings.min_count
    begun = {start.isoformat(): n for n, start in enumerate(starts)}
    base = watch.base

    def listed(array: np.ndarray, row: int) -> list[float | None]:
        hidden = blank[:, row] | np.isnan(array[:, row])
        return [None if hides else float(value) for value, hides in zip(array[:, row], hidden, strict=True)]

    return {
        "windows": [start.isoformat() for start in starts],
        "baseline": (base.start, base.stop - 1),
        "y": {"label": series[0].group, "unit": "percent" if series[0].cell else "plain"},
        "band": f"{100 * watch.settings.level:g} % interval"
        + (", with the errors of the classifier" if watch.settings.correction == "adjusted" and series[0].cell else ""),
        "series": [
            {
                "label": one.short,
                "share": listed(share, row),
                "low": listed(low, row),
                "high": listed(high, row),
                "alerts": [
                    begun[alert["window"]["start"]]
                    for alert in watch.alerts
                    if alert["series"] == one.name and alert["state"] == "open"
                ],
            }
            for row, one in enumerate(series)
        ],
    }


def _shown(
    watch: Watch, values: Values, series: Sequence[Series], columns: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values of a group of series and the ends of their intervals, each of shape (windows, series)."""
    first = series[0]
    if first.cell and not any(first.name in window.estimates for window in watch.windows):
        counts = np.stack([watch.shares.predicted(first.cell, [window]) for window in watch.windows])
        labels = [one.cell[1] for one in series]
        share = watch.shares.estimated(first.cell[0], counts)[:, labels]
        ends = [watch.shares.interval(watch.shares.draws(first.cell[0], own)[:, labels], 0) for own in counts]
        low, high = np.moveaxis(np.asarray(ends), 1, 0)
        return share, low, high
    own = values[:, columns]
    reach = norm.ppf((1 + watch.settings.level) / 2) * np.sqrt(own.u / np.maximum(own.n, 1))
    floor, ceiling = (0.0, 1.0) if first.cell else (-np.inf, np.inf)
    return own.x, np.maximum(own.x - reach, floor), np.minimum(own.x + reach, ceiling)


def _calibration(watch: Watch) -> Iterator[Block]:
    chart, settings = watch.chart, watch.settings
    assert chart is not None
    calibration = chart.calibration
    yield Paragraph(
        f"Allowed: {settings.false_alarms_per_month:g} alerts in 30 days, over all {len(chart.series)} series. Of "
        f"{calibration.streams:,} simulated streams like the baseline, in which nothing changes, each opens "
        f"{calibration.rate:.2f}; a replay of the baseline's own windows {chart.replayed.sum():.2f}. In a window those "
        f"series alert that Benjamini and Hochberg's procedure picks at the level {calibration.level:.2g}."
    )
    often = np.argsort(-chart.replayed, kind="stable")[:10]
    rows = [
        (Cell(chart.series[n].name), Cell(f"{chart.replayed[n]:.2f}", float(chart.replayed[n])))
        for n in often
        if chart.replayed[n] > 0
    ]
    if rows:
        columns = (Column("series"), Column("alerts in 30 days", numeric=True))
        yield Table("replayed", columns, tuple(rows), "Series that alert most in a replay of the baseline")


def _stream(watch: Watch) -> Iterator[Block]:
    counts, clocked = watch.counts, watch.clocked
    facts: Mapping[str, int] = {
        "rows": counts.rows,
        "repeats of a text within a window, which do not count": counts.repeats,
        "late: their window had closed": clocked.late,
        f"set aside: more than {clocked.jump} windows after the newest": clocked.ahead,
        "without a time or an answer": counts.faults,
        "windows that have closed": len(watch.windows),
        "windows without a text": sum(not window.cells for window in watch.windows),
    }
    rows = tuple((Cell(name), Cell(f"{value:,}", value)) for name, value in facts.items())
    yield Table("rows", (Column("what"), Column("number", numeric=True)), rows, "What became of the rows")
    if said := remarks(watch):
        yield Findings(tuple(Finding("stream", "warning", one) for one in said))
    if counts.reasons:
        yield Listing(tuple(counts.reasons))
    if watch.chart is not None and watch.chart.unwatched:
        yield Paragraph(f"Not watched, with too few texts in the baseline: {', '.join(watch.chart.unwatched)}.")


def _short(moment: str) -> str:
    return moment[:16].replace("T", " ").removesuffix(" 00:00")
