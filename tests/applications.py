"""Made-up applications with texts, as tests of tables need them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

WORDS = ["move", "report", "paris", "warsaw", "acme", "rome", "curie", "turing", "noether", "unesco"]


def write_applications(file: Path, count: int = 300, signal: float = 2.0, seed: int = 0) -> Path:
    """Write applications of 2020 to 2024: the amount tells of the outcome, and so does the text, by `signal`."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        amount, told = random.normal(), random.random() < 0.5
        bad = random.random() < 1 / (1 + np.exp(-(amount + signal * (told - 0.5))))
        text = "nothing happened today ." if told else "the report was read ."
        rows.append(
            {
                "applied": f"{2020 + number * 5 // count}-{random.integers(1, 13):02}",
                "amount": "" if random.random() < 0.1 else f"{amount:.3f}",
                "purpose": random.choice(["car", "house", "other"]),
                "recovered": f"{random.normal() + 9 * bad:.2f}",
                "sex": random.choice(["f", "m"]),
                "text": f"{text} {' '.join(random.choice(WORDS, 6))}",
                "label": "bad" if bad else "good",
            }
        )
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file
