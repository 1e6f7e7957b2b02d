"""What a watch knows once its baseline is complete: the series, what is normal, and from when on it alerts."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from peftlab.errors import DataError
from peftlab.opinion.calibration import Calibration, Plan, calibrate, null_streams, replay, streams_of, windows_of
from peftlab.opinion.correction import em
from peftlab.opinion.monitor import Monitor, Tails
from peftlab.opinion.normal import Normal
from peftlab.opinion.questions import Question
from peftlab.opinion.series import Asked, Design, Series, cells_of, named, of_cell, series_of, values_of
from peftlab.opinion.settings import Settings
from peftlab.opinion.windows import Window

log = logging.getLogger("peftlab")

_LEAST_USABLE = 0.5
"""The share of the windows of the baseline that must have texts enough of a series."""


@dataclass(frozen=True)
class Chart:
    """The series of a watch, with what is normal of each.

    Attributes:
        series: that are watched.
        unwatched: the names of series that the baseline has too few texts of.
        normal: of the baseline.
        calibration: of the alerts.
        replayed: false alerts a month of each series in a replay of the baseline, shape (series,).
    """

    series: list[Series]
    unwatched: list[str]
    normal: Normal
    calibration: Calibration
    replayed: np.ndarray

    def monitor(self, settings: Settings) -> Monitor:
        """Return a monitor that has seen nothing."""
        calibration, shape = self.calibration, (len(self.series),)
        level, after = calibration.level, settings.close_after
        return Monitor(settings.detector, calibration.tails, level, after, shape, families_of(self.series))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "series": [[one.name, one.cell] for one in self.series],
            "unwatched": self.unwatched,
            "normal": {field.name: _listed(getattr(self.normal, field.name)) for field in fields(Normal)},
            "tails": [self.calibration.tails.width.tolist(), self.calibration.tails.log_p.tolist()],
            "calibration": [self.calibration.level, self.calibration.rate, self.calibration.streams],
            "replayed": self.replayed.tolist(),
        }

    @classmethod
    def of_json(cls, document: Mapping[str, Any], questions: Sequence[Question]) -> Chart:
        """Return the chart in JSON values, of the same questions."""
        tails = Tails(*(np.asarray(part) for part in document["tails"]))
        return cls(
            [of_cell(name, cell, questions) for name, cell in document["series"]],
            document["unwatched"],
            Normal(**{name: np.asarray(value, float) for name, value in document["normal"].items()}),
            Calibration(tails, *document["calibration"]),
            np.asarray(document["replayed"]),
        )


def _listed(array: np.ndarray) -> Any:
    values = array.astype(object)
    values[np.isnan(array)] = None
    return values.tolist()


def chart_of(
    settings: Settings,
    questions: Sequence[Question],
    kinds: Sequence[Asked],
    windows: Sequence[Window],
    phases: np.ndarray,
) -> Chart:
    """Return the chart of a baseline.

    Args:
        settings: of the watch.
        questions: of the watch.
        kinds: of series.
        windows: of the baseline.
        phases: of these windows.

    Raises:
        DataError: no series has texts enough.
    """
    adjust = settings.correction == "adjusted"
    candidates = series_of(kinds, questions, windows, settings.most_values)
    values = values_of(candidates, questions, windows, adjust)
    usable = (values.n >= settings.min_count).mean(0) >= _LEAST_USABLE
    if not usable[[bool(one.cell) for one in candidates]].any():
        raise DataError(
            f"no series has {settings.min_count} texts in half of the {len(windows)} windows of the baseline (the most "
            f"in one: {int(values.n.max(initial=0))}). Set a lower min_count, or a longer window"
        )
    of_cells = [bool(one.cell) and not _is_estimated(one, windows) for one in candidates]
    order = [n for n in np.argsort([not each for each in of_cells], kind="stable") if usable[n]]
    series = [candidates[n] for n in order]
    values = values[:, order]
    shares = sum(of_cells[n] for n in order)
    cells, counts = cells_of(windows)
    design = Design.of(series[:shares], questions, cells, adjust)
    total = np.maximum(values.n.sum(0), 1.0)
    ranges = np.append(design.ranges, np.ones(len(series) - shares))
    ahead, months = windows_of(settings.window)
    season = settings.season
    plan = Plan(
        phases=np.append(phases, (phases[-1] + 1 + np.arange(ahead)) % season),
        baseline=len(windows),
        months=months,
        season=season,
        least=ranges**2 * 0.5 / (total + 1),
        shift=np.asarray([settings.shift if one.cell else np.nan for one in series]),
        min_count=settings.min_count,
        families=families_of(series),
    )
    streams = streams_of(plan)
    log.info("the baseline is complete: %d series, %d months are simulated", len(series), round(streams * months))
    random = np.random.default_rng((settings.seed, zlib.crc32(b"calibration")))
    null = null_streams(plan, design, counts, values[:, shares:], streams, random)
    detector = settings.detector
    calibration = calibrate(plan, null, detector, settings.false_alarms_per_month, settings.close_after)

    def make(shape: tuple[int, ...]) -> Monitor:
        return Monitor(detector, calibration.tails, calibration.level, settings.close_after, shape, plan.families)

    replayed = replay(plan, values, make, np.random.default_rng((settings.seed, zlib.crc32(b"replay"))))
    unwatched = [one.name for one, enough in zip(candidates, usable, strict=True) if not enough]
    return Chart(series, unwatched, plan.normal(values), calibration, replayed)


def families_of(series: Sequence[Series]) -> list[np.ndarray]:
    """Return the places of shares, and those of measures of the texts themselves: two families of hypotheses."""
    are_shares = np.asarray([bool(one.cell) for one in series])
    return [places for places in (np.flatnonzero(are_shares), np.flatnonzero(~are_shares)) if len(places)]


def _is_estimated(one: Series, windows: Sequence[Window]) -> bool:
    return any(one.name in window.estimates for window in windows)


def estimate(
    window: Window, kinds: Sequence[Asked], questions: Sequence[Question], rows: Mapping[int, Any], cells: Any
) -> None:
    """Estimate the shares of a window from the probabilities of its texts, and keep them in it.

    Args:
        window: that has closed.
        kinds: of series.
        questions: of the watch.
        rows: by question, the probabilities of all labels of each text.
        cells: the answers of each text.
    """
    answers = np.asarray(cells, np.int64).reshape(-1, len(questions))
    for kind in kinds:
        confusion = questions[kind.question].confusion
        if confusion is None or kind.question not in rows:
            continue
        probabilities = np.asarray(rows[kind.question], float)
        for value in [None] if kind.within is None else np.unique(answers[:, kind.within]).tolist():
            own = probabilities if value is None else probabilities[answers[:, kind.within] == value]
            if len(own) < 2:
                continue
            shares, variance = em(own, confusion.priors)
            for label, (share, each) in enumerate(zip(shares.tolist(), variance.tolist(), strict=True)):
                window.estimates[named(kind, label, value, questions).name] = (len(own), share, each)
