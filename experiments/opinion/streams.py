"""Made-up streams: texts with true topics and opinions, and what a classifier with a given confusion says of them.

The counts of cells of a window are drawn, not single rows: a window of any size costs the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from peftlab.opinion.chart import Chart, chart_of
from peftlab.opinion.correction import Confusion
from peftlab.opinion.monitor import Monitor
from peftlab.opinion.questions import Question
from peftlab.opinion.series import asked, values_of
from peftlab.opinion.settings import Settings
from peftlab.opinion.windows import Window

TOPICS = ("business", "entertainment", "politics", "sports", "tech")
OPINIONS = ("negative", "neutral", "positive")


class Maker:
    """Makes windows of a stream, whose opinions a classifier with a confusion gives.

    Args:
        confusions: counts, gold by predicted, of the classifier of topics (None: there is none) and of opinions.
        topics: the true shares.
        opinions: the true shares within every topic.
        size: texts of a window.
        spread: the standard deviation, in points, of the true shares from day to day.
        week: points by which the share of the first opinion is higher on the last two days of a week.
    """

    def __init__(
        self,
        confusions: Sequence[np.ndarray],
        topics: Sequence[float],
        opinions: Sequence[float],
        size: int,
        spread: float = 0.0,
        week: float = 0.0,
    ) -> None:
        self.rates = [counts / counts.sum(1, keepdims=True) for counts in confusions]
        self.topics, self.opinions, self.size, self.spread, self.week = topics, np.asarray(opinions), size, spread, week
        names = [("topic", TOPICS), ("opinion", OPINIONS)][-len(confusions) :]
        self.questions = [
            Question(name, list(labels), Confusion(labels, counts))
            for (name, labels), counts in zip(names, confusions, strict=True)
        ]

    def window(self, number: int, random: np.random.Generator, shift: Sequence[float] = (0, 0, 0)) -> Window:
        """Return a window; `shift` is added to the true shares of opinions."""
        shares = self.opinions + shift
        if number % 7 >= 5 and self.week:
            shares = shares + self.week * np.asarray([1, -0.5, -0.5])
        if self.spread:
            shares = shares + self.spread * random.standard_normal(len(shares))
        shares = np.maximum(shares, 1e-3)
        predicted = shares / shares.sum() @ self.rates[-1]
        if len(self.rates) == 1:
            counts = random.multinomial(random.poisson(self.size), predicted)
            return Window(Counter({(label,): int(count) for label, count in enumerate(counts) if count}))
        joint = np.outer(np.asarray(self.topics) @ self.rates[0], predicted)
        counts = random.multinomial(random.poisson(self.size), joint.ravel()).reshape(joint.shape)
        return Window(Counter({(t, o): int(counts[t, o]) for t, o in np.argwhere(counts).tolist()}))


def chart(maker: Maker, settings: Settings, random: np.random.Generator) -> tuple[Chart, int]:
    """Return the chart of a baseline, and the number of windows in it."""
    assert isinstance(settings.baseline, int)
    windows = [maker.window(n, random) for n in range(settings.baseline)]
    kinds = asked(None, [question.name for question in maker.questions], len(maker.questions))
    phases = np.arange(settings.baseline) % settings.season
    return chart_of(settings, maker.questions, kinds, windows, phases), settings.baseline


def steps(
    maker: Maker, settings: Settings, own: Chart, windows: Sequence[Window], first: int
) -> list[list[tuple[str, int]]]:
    """Return, for each window after the baseline, the series that alert in it, and whether each rises (1) or falls."""
    monitor: Monitor = own.monitor(settings)
    values = values_of(own.series, maker.questions, windows, settings.correction == "adjusted")
    found = []
    for place in range(len(windows)):
        z = own.normal.standardised(values[place], (first + place) % settings.season)
        z[~(values.n[place] >= settings.min_count)] = np.nan
        step = monitor.step(z, own.normal.k)
        found.append([(own.series[n].name, int(monitor.open[n])) for n in np.flatnonzero(step.opened)])
    return found
