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
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import binomtest
from streams import OPINIONS, Maker, chart, steps

from peftlab.opinion import calibration
from peftlab.opinion.detectors import chosen
from peftlab.opinion.questions import of_run
from peftlab.opinion.settings import Settings

OF_OPINIONS = np.array([[160, 30, 10], [40, 320, 40], [10, 30, 160]])
OF_TOPICS = 8 * np.eye(5) * 12 + 1
"""Confusions of no run: 80 % and 95 % accuracy."""
QUIET = 10
WITHIN = 3


Row = dict[str, Any]


def study(maker: Maker, settings: Settings, number: int, points: float, months: int, seed: int) -> Row:
    """Return what share of shifts is found, and how many false alarms open a month, with intervals of 95 %."""
    delays: list[int | None] = []
    false: list[int] = []
    for each in range(number):
        random = np.random.default_rng((seed, each, round(1000 * points), maker.size))
        own, first = chart(maker, settings, random)
        label = each % len(OPINIONS)
        shift = np.full(len(OPINIONS), -points / (len(OPINIONS) - 1))
        shift[label] = points
        sign = -1 if each % 2 else 1
        windows = [maker.window(first + n, random) for n in range(QUIET)]
        windows += [maker.window(first + n, random, sign * shift) for n in range(QUIET, QUIET + 14)]
        found = steps(maker, settings, own, windows, first)
        series = f"opinion={OPINIONS[label]}"
        hits = [n - QUIET + 1 for n in range(QUIET, len(found)) if (series, sign) in found[n]]
        already = any((series, sign) in step for step in found[:QUIET])
        delays.append(None if already or not hits else hits[0])
        still = steps(maker, settings, own, [maker.window(first + n, random) for n in range(30 * months)], first)
        false.append(sum(map(len, still)))
    in_time = sum(delay is not None and delay <= WITHIN for delay in delays)
    ends = binomtest(in_time, number).proportion_ci(method="exact")
    return {
        "found": in_time / number,
        "found_interval": [ends.low, ends.high],
        "median_delay": float(np.median([delay or math.inf for delay in delays])),
        "never": sum(delay is None for delay in delays),
        "false_a_month": mean(false) / max(months, 1),
        "false_interval": interval(false, max(months, 1)),
        "months": months * number,
    }


def interval(counts: list[int], months: int) -> list[float]:
    """Return the interval of 95 % of a mean over streams, by a normal distribution."""
    reach = 1.96 * stdev(counts) / math.sqrt(len(counts))
    return [(mean(counts) - reach) / months, (mean(counts) + reach) / months]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--number", type=int, default=200, help="shifts of a row")
    parser.add_argument("--months", type=int, default=1, help="without a shift, of each stream")
    parser.add_argument("--streams", type=int, default=300, help="months of a calibration; the command takes 1,000")
    parser.add_argument("--allowed", type=float, default=1.0, help="false_alarms_per_month")
    parser.add_argument("--parts", default="cusum,ewma,shewhart,week,power")
    parser.add_argument("--sizes", default="200,500,1000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    calibration.MOST_STREAMS = options.streams
    opinions, topics = OF_OPINIONS, OF_TOPICS
    if options.runs:
        opinions = of_run(options.runs[0], "opinion", "test").confusion.counts  # type: ignore[union-attr]
    if len(options.runs) > 1:
        topics = of_run(options.runs[1], "topic", "test").confusion.counts  # type: ignore[union-attr]

    def maker(size: int, alone: bool = False, **more: float) -> Maker:
        confusions = [opinions] if alone else [topics, opinions]
        return Maker(confusions, [0.2] * 5, [0.25, 0.4, 0.35], size, **more)

    results: dict[str, dict[str, Row]] = {}

    def measure(title: str, makers: dict[str, Maker], points: float, number: int, months: int, **more: object) -> None:
        settings = replace(Settings(min_count=20, false_alarms_per_month=options.allowed), **more)
        print(f"\n{title}")
        rows = results.setdefault(title, {})
        for name, one in makers.items():
            rows[name] = study(one, settings, number, points, months, options.seed)
            report(name, rows[name])
            if options.out:
                options.out.write_text(json.dumps(results, indent=1) + "\n")

    sizes = [int(size) for size in options.sizes.split(",")]
    parts = options.parts.split(",")
    for kind in set(parts) & {"cusum", "ewma", "shewhart"}:
        makers = {f"{size:,} texts a day, and topics": maker(size) for size in sizes}
        makers |= {f"{size:,} texts a day, opinions alone": maker(size, alone=True) for size in sizes}
        makers |= {f"{size:,} texts, days vary by 2 points": maker(size, spread=0.02) for size in sizes[-1:]}
        measure(f"{kind}: 10 points", makers, 0.1, options.number, options.months, detector=chosen(kind)())
    if "week" in parts:
        week = {"500 texts, weekends 6 points off": maker(500, week=0.06)}
        for season in (1, 7):
            measure(f"season: {season}", week, 0.1, options.number, options.months, season=season)
    for points in (0.02, 0.05, 0.1, 0.15) if "power" in parts else ():
        makers = {f"{size:,} texts": maker(size) for size in (100, 200, 500, 1000, 5000)}
        measure(f"power: {100 * points:g} points", makers, points, options.number // 4, 0)


def report(name: str, row: Row) -> None:
    """Print a row."""
    (low, high), (less, more) = row["found_interval"], row["false_interval"]
    print(
        f"  {name:36} found in {WITHIN}: {row['found']:.3f} ({low:.3f} to {high:.3f}), "
        f"median {row['median_delay']:g}, never {row['never']}; "
        f"false a month {row['false_a_month']:.2f} ({less:.2f} to {more:.2f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
