"""How many shifts of 10 points are found within 3 windows, at how many false alarms a month without any?

    python experiments/opinion/shifts.py [RUN_OF_OPINIONS [RUN_OF_TOPICS]] --out results.json

Each of the shifts has a stream of its own: a baseline of 28 days, some quiet days, and then a share that has moved. The
classifier errs as the run has on its test split; without runs, as one of 80 % accuracy.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, chi2
from streams import OPINIONS, Maker, chart, steps

from peftlab.opinion.detectors import chosen
from peftlab.opinion.questions import of_run
from peftlab.opinion.settings import Settings

OF_OPINIONS = np.array([[160, 30, 10], [40, 320, 40], [10, 30, 160]])
OF_TOPICS = 8 * np.eye(5) * 12 + 1
"""Confusions of no run: 80 % and 95 % accuracy."""
QUIET = 10
WITHIN = 3


def study(
    makers: dict[str, Maker], settings: Settings, number: int, points: float, months: int, seed: int
) -> dict[str, object]:
    """Return what share of shifts is found, and how many false alarms open a month, with intervals of 95 %."""
    rows = {}
    for name, maker in makers.items():
        delays: list[int | None] = []
        false = days = 0
        for each in range(number):
            random = np.random.default_rng((seed, each, round(1000 * points), maker.size))
            own, first = chart(maker, settings, random)
            label = each % len(OPINIONS)
            shift = np.full(len(OPINIONS), -points / (len(OPINIONS) - 1))
            shift[label] = points
            if each % 2:  # down: as far as there is something to lose
                shift = -shift
            sign = 1 if shift[label] > 0 else -1
            windows = [maker.window(first + n, random) for n in range(QUIET)]
            windows += [maker.window(first + n, random, shift) for n in range(QUIET, QUIET + 14)]
            found = steps(maker, settings, own, windows, first)
            series = f"opinion={OPINIONS[label]}"
            hit = [n - QUIET + 1 for n in range(QUIET, len(found)) if (series, sign) in found[n]]
            already = any((series, sign) in step for step in found[:QUIET])
            delays.append(None if already or not hit else hit[0])
            still = steps(maker, settings, own, [maker.window(first + n, random) for n in range(30 * months)], first)
            false, days = false + sum(map(len, still)), days + len(still)
        in_time = sum(delay is not None and delay <= WITHIN for delay in delays)
        ends = binomtest(in_time, number).proportion_ci(method="exact")
        rows[name] = {
            "found": in_time / number,
            "found_interval": [ends.low, ends.high],
            "median_delay": float(np.median([delay or math.inf for delay in delays])),
            "never": sum(delay is None for delay in delays),
            "false_a_month": 30 * false / days,
            "false_interval": [
                30 * chi2.ppf(0.025, 2 * false) / 2 / days if false else 0,
                30 * chi2.ppf(0.975, 2 * false + 2) / 2 / days,
            ],
            "months": days / 30,
        }
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--months", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--power", action="store_true", help="the table by size and count, too")
    options = parser.parse_args()
    opinions, topics = OF_OPINIONS, OF_TOPICS
    if options.runs:
        opinions = of_run(options.runs[0], "opinion", "test").confusion.counts  # type: ignore[union-attr]
    if len(options.runs) > 1:
        topics = of_run(options.runs[1], "topic", "test").confusion.counts  # type: ignore[union-attr]
    shares = [0.25, 0.4, 0.35]

    def maker(size: int, **more: float) -> Maker:
        return Maker([topics, opinions], [0.2] * 5, shares, size, **more)

    settings = Settings(min_count=20)
    results: dict[str, object] = {}
    makers = {
        "200 texts a day": maker(200),
        "400 texts a day": maker(400),
        "1,000 texts a day": maker(1000),
        "1,000 texts, days vary by 2 points": maker(1000, spread=0.02),
    }
    for detector in ("cusum", "ewma", "shewhart"):
        own = replace(settings, detector=chosen(detector)())
        results[detector] = study(makers, own, options.number, 0.1, options.months, options.seed)
        report(f"{detector}: shifts of 10 points", results[detector])
        if options.out:
            options.out.write_text(json.dumps(results, indent=1))
    week = {"400 texts, weekends 6 points off": maker(400, week=0.06)}
    for season in (1, 7):
        own = replace(settings, season=season)
        results[f"season {season}"] = study(week, own, options.number, 0.1, options.months, options.seed)
        report(f"season: {season}", results[f"season {season}"])
    if options.power:
        for points in (0.02, 0.05, 0.1, 0.15):
            sizes = {f"{size:,} texts": maker(size) for size in (100, 200, 400, 1000, 5000)}
            results[f"power {points}"] = study(sizes, settings, options.number // 4, points, 0, options.seed)
            report(f"shifts of {100 * points:g} points", results[f"power {points}"])
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


def report(title: str, rows: dict[str, dict[str, object]]) -> None:  # type: ignore[type-arg]
    """Print a table."""
    print(f"\n{title}")
    for name, row in rows.items():
        low, high = row["found_interval"]  # type: ignore[misc]
        less, more = row["false_interval"]  # type: ignore[misc]
        print(
            f"  {name:36} found in {WITHIN}: {row['found']:.3f} ({low:.3f} to {high:.3f}), "
            f"median {row['median_delay']:g}, never {row['never']}; "
            f"false a month {row['false_a_month']:.2f} ({less:.2f} to {more:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
