"""How often intervals for a table of draws by patterns cover its mean: python two_way.py TABLES

Three intervals: that of the package (`peftlab.report.statistics.two_way`), the percentiles of the crossed bootstrap as
they are, and Student's over all cells as if they were independent.
"""

from __future__ import annotations

import sys

import numpy as np

from peftlab.report.statistics.means import mean
from peftlab.report.statistics.two_way import crossed

SHAPES = [(2, 2), (3, 3), (5, 3), (5, 5), (10, 5), (3, 1), (10, 1)]
PARTS = {
    "all alike": (1, 1, 1),
    "draws": (2, 0.3, 0.3),
    "patterns": (0.3, 2, 0.3),
    "neither": (0, 0, 1),
}
"""The standard deviations of draws, of patterns and of the rest."""
RESAMPLES = 500


def percentiles(values: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    """Return the interval of the crossed bootstrap without its correction."""
    by_row, by_column = (random.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in values.shape)
    low, high = np.quantile(((by_row @ values) * by_column).sum(axis=1), [0.025, 0.975])
    return low, high


def main(tables: int) -> None:
    """Print the table."""
    print("| draws x patterns | what varies | package | percentiles | over cells |\n|---|---|---|---|---|")
    for shape in SHAPES:
        for name, (row, column, rest) in PARTS.items():
            if shape[1] == 1 and column:  # an interval over draws alone says nothing of patterns
                continue
            random, covered = np.random.default_rng(0), np.zeros(3)
            for seed in range(tables):
                values = row * random.normal(size=(shape[0], 1)) + column * random.normal(size=(1, shape[1]))
                values = values + rest * random.normal(size=shape)
                found, one = crossed(values, RESAMPLES, seed=seed), mean(values.ravel())
                limits = [(found.low, found.high), percentiles(values, random), (one.low, one.high)]
                covered += [low <= 0 <= high for low, high in limits]
            print(f"| {shape[0]} x {shape[1]} | {name} | {' | '.join(f'{c / tables:.3f}' for c in covered)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]))
