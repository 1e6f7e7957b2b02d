"""The rate of false alarms is what is allowed, on streams that the calibration has not seen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from peftlab.opinion.chart import Chart, chart_of
from peftlab.opinion.correction import Confusion
from peftlab.opinion.questions import Question
from peftlab.opinion.series import asked, values_of
from peftlab.opinion.settings import Settings
from peftlab.opinion.windows import Window

pytestmark = pytest.mark.slow

LABELS = ("negative", "neutral", "positive")
CONFUSION = Confusion(LABELS, np.array([[80.0, 15, 5], [20, 160, 20], [3, 12, 85]]))
QUESTIONS = [Question("opinion", list(LABELS), CONFUSION)]
KINDS = asked(None, ["opinion"], 1)


def windows_of(number, random, shares=(0.3, 0.4, 0.3), size=200):
    counts = random.multinomial(size, np.asarray(shares) @ CONFUSION.rates, size=number)
    return [Window(Counter({(n,): int(count) for n, count in enumerate(row)})) for row in counts]


def charted(settings, windows):
    return chart_of(settings, QUESTIONS, KINDS, windows, np.arange(len(windows)) % settings.season)


def opened(settings, chart, windows):
    monitor, values = chart.monitor(settings), values_of(chart.series, QUESTIONS, windows, True)
    return [
        [
            chart.series[n].name
            for n in np.flatnonzero(monitor.step(chart.normal.standardised(values[w], 0), chart.normal.k).opened)
        ]
        for w in range(len(windows))
    ]


@pytest.fixture(scope="module")
def charts():
    settings = Settings(false_alarms_per_month=2)
    random = np.random.default_rng(0)
    return settings, [charted(settings, windows_of(28, random)) for _ in range(12)]


@pytest.mark.exhaustive
def test_no_more_false_alarms_than_are_allowed(charts):
    settings, each = charts
    random = np.random.default_rng(1)
    counts = [sum(map(len, opened(settings, chart, windows_of(30, random)))) for chart in each for _ in range(5)]
    assert 0.9 <= np.mean(counts) <= 3.0, counts
    assert all(chart.calibration.rate <= 2 for chart in each)


@pytest.mark.exhaustive
def test_a_shift_is_found_soon(charts):
    settings, each = charts
    random = np.random.default_rng(2)
    found = [opened(settings, chart, windows_of(3, random, (0.4, 0.35, 0.25))) for chart in each]
    assert sum(any("opinion=negative" in step for step in steps) for steps in found) >= 9


def test_the_same_seed_gives_the_same_chart_and_json_keeps_it(charts):
    settings, _ = charts
    windows = windows_of(28, np.random.default_rng(5))
    chart = charted(settings, windows)
    assert charted(settings, windows).as_json() == chart.as_json()
    assert Chart.of_json(chart.as_json(), QUESTIONS).as_json() == chart.as_json()


def test_days_that_vary_beyond_chance_are_no_news():
    random = np.random.default_rng(4)
    shares = np.maximum(np.array([0.3, 0.4, 0.3]) + 0.05 * random.standard_normal((120, 3)), 0.05)
    shares /= shares.sum(1, keepdims=True)
    windows = [windows_of(1, random, each, 2000)[0] for each in shares]
    settings = Settings(false_alarms_per_month=1)
    chart = charted(settings, windows[:60])
    assert chart.normal.variance.min() > 4 * 0.2
    assert sum(map(len, opened(settings, chart, windows[60:]))) <= 6


def test_a_week_has_a_mean_for_each_day():
    random = np.random.default_rng(6)
    week = [(0.3, 0.4, 0.3)] * 5 + [(0.5, 0.3, 0.2)] * 2
    windows = [windows_of(1, random, week[n % 7])[0] for n in range(42)]
    chart = charted(Settings(season=7, baseline=42), windows)
    negative = chart.normal.mean[:, 0]
    assert negative[:5] == pytest.approx(0.3, abs=0.06)
    assert negative[5:] == pytest.approx(0.5, abs=0.06)
