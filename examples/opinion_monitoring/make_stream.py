"""Makes up a stream of a run's test texts: their labels are true, their times are not, and a shift is injected.

python make_stream.py RUN --out stream.csv
"""

from __future__ import annotations

import argparse
import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from peftlab.runs.folder import read_predictions


def main() -> None:
    """Write the stream."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="its folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--a-day", type=int, default=500)
    parser.add_argument("--shift-on", type=int, default=45, help="the day, from 0, from which the share is higher")
    parser.add_argument("--label", help="whose share rises; by default the first")
    parser.add_argument("--points", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = read_predictions(options.run / "predictions" / "test.jsonl")
    texts = {
        label: [row["input"] for row in rows if row["gold"] == label] for label in sorted({r["gold"] for r in rows})
    }
    labels = list(texts)
    normal = np.asarray([len(texts[label]) / len(rows) for label in labels])
    risen = labels.index(options.label) if options.label else 0
    moved = normal * (1 - (normal[risen] + options.points)) / (1 - normal[risen])
    moved[risen] = normal[risen] + options.points
    random = np.random.default_rng(options.seed)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    with options.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["created", "text"])
        for day in range(options.days):
            shares = normal if day < options.shift_on else moved
            for second in np.sort(random.uniform(0, 86400, options.a_day)).tolist():
                label = labels[random.choice(len(labels), p=shares)]
                created = begin + timedelta(days=day, seconds=int(second))
                writer.writerow([created.isoformat(), texts[label][random.integers(len(texts[label]))]])


if __name__ == "__main__":
    main()
