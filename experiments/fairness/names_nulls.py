"""How often equal groups of names are said to differ, and what meeting the same sentences is worth.

Names and sentences are drawn anew for each study, and every group meets the sentences in its own way, as models do: on
average over all names and sentences the groups are equal.

    .venv/bin/python experiments/fairness/names_nulls.py --studies 2000
"""

from __future__ import annotations

import argparse

import numpy as np

from peftlab.report.statistics.crossed_gap import crossed_gap

NAMES, SENTENCES = 40, 50
SPREAD = {"names": 0.06, "sentences": 0.2, "groups by sentences": 0.08}
"""Standard deviations of the probability that a name is found, around .8; the answers are right or wrong."""


def study(random: np.random.Generator, groups: int, shift: float = 0.0) -> tuple[np.ndarray, list[str]]:
    """Return the answers, shape (names, sentences), and the group of each name; the first is lower by `shift`."""
    p = 0.8 + random.normal(0, SPREAD["sentences"], SENTENCES)
    p = p + random.normal(0, SPREAD["groups by sentences"], (groups, 1, SENTENCES))
    p = p + random.normal(0, SPREAD["names"], (groups, NAMES, 1))
    p[0] -= shift
    right = random.random(p.shape) < p
    return right.reshape(groups * NAMES, SENTENCES).astype(float), [
        f"g{n}" for n in range(groups) for _ in range(NAMES)
    ]


def main() -> None:
    """Print a row for each number of groups."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    print(f"{studies} studies of equal groups, {NAMES} names each, {SENTENCES} sentences; level .05")
    print("| groups | false: names and sentences | false: over names alone | over sentences, interval shared / apart |")
    print("|-|-|-|-|")
    for groups in (2, 5, 10):
        random = np.random.default_rng(groups)
        gaps = [crossed_gap(*study(random, groups), draws=199, seed=n) for n in range(studies)]
        false, alone = (
            np.mean([p < 0.05 for p in ps]) for ps in zip(*((one.p, one.p_rows) for one in gaps), strict=True)
        )
        width = np.median([one.pairing for one in gaps])
        print(f"| {groups} | {false:.3f} | {alone:.3f} | {width:.2f} |", flush=True)


if __name__ == "__main__":
    main()
