"""How often drift is called where there is none, and how often where there is some.

    python experiments/serving/drift_error.py [RUN ...] [--windows 2000] [--out drift_error.json]

The population is the test split of each run as its predictions have it (words stand for tokens), or, without a run,
generated inputs. Each window is drawn with a reference of its own, so that the error is over both. A shifted window has
some inputs replaced: by ones that are twice as long, whose label is the most frequent one, or that are unsure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import beta

from peftlab.runs.folder import read_predictions
from peftlab.serving.observing.drift import LEVEL, Reference, reference_of
from peftlab.serving.observing.traits import Traits, traits

REFERENCE = 1_000
SIZES = (100, 300, 1_000)
SHARES = (0.1, 0.2, 0.4)
AT_ONCE = 50
"""Windows that share a reference, whose limits take a second to draw."""


def of_run(folder: Path) -> list[tuple[int, int, Traits]]:
    rows = read_predictions(folder / "predictions" / "test.jsonl")
    return [
        (
            len(row["input"]),
            0,
            traits({**row, "entities": row["predicted_entities"]} if "predicted_entities" in row else row),
        )
        for row in rows
    ]


def generated(generator: np.random.Generator, count: int = 20_000) -> list[tuple[int, int, Traits]]:
    inputs = []
    for _ in range(count):
        tokens = int(max(1, generator.gamma(4, 6)))
        entities, label = int(generator.poisson(1.5)), str(generator.choice(["PER", "LOC", "ORG"], p=[0.2, 0.5, 0.3]))
        sure = np.clip(generator.beta(12, 1) + generator.normal(0, 0.01, entities), 0, 1)
        inputs.append(
            (tokens, int(generator.binomial(tokens, 0.02)), Traits((label,) * entities or ("none",), tuple(sure)))
        )
    return inputs


def shifted(inputs: list[tuple[int, int, Traits]], kind: str, share: float, common: str, generator) -> list:
    changed = []
    for tokens, unknown, one in inputs:
        if generator.random() >= share:
            changed.append((tokens, unknown, one))
        elif kind == "lengths":
            changed.append((2 * tokens, 2 * unknown, one))
        elif kind == "labels":
            changed.append((tokens, unknown, Traits((common,) * max(1, len(one.labels)), one.confidences)))
        else:
            changed.append((tokens, unknown, Traits(one.labels, tuple(0.6 * value for value in one.confidences))))
    return changed


def is_drift(reference: Reference, window: list[tuple[int, int, Traits]]) -> bool:
    own = reference_of(*zip(*window, strict=True))
    totals, start, counts = own.counts.sum(0), 0, {}
    for name, bins in own.bins.items():
        counts[name] = dict(zip(bins, totals[start : start + len(bins)], strict=True))
        start += len(bins)
    return any(one.beyond_chance for one in reference.differences(counts, len(window)))


def measure(name: str, population: list, windows: int, generator: np.random.Generator) -> list[dict]:
    labels = [label for *_, one in population for label in one.labels]
    common = max(set(labels), key=labels.count)
    rows = []
    for size in SIZES:
        alarms = dict.fromkeys(
            [("none", 0.0), *((kind, share) for kind in ("lengths", "labels", "confidence") for share in SHARES)], 0
        )
        tried = dict.fromkeys(alarms, 0)
        for begun in range(0, windows, AT_ONCE):
            order = generator.permutation(len(population))
            split = min(REFERENCE, len(population) // 2)
            reference = reference_of(*zip(*[population[place] for place in order[:split]], strict=True))
            others = order[split:]
            for _ in range(min(AT_ONCE, windows - begun)):
                window = [population[place] for place in generator.choice(others, size, replace=size > len(others))]
                alarms["none", 0.0] += is_drift(reference, window)
                tried["none", 0.0] += 1
            for kind, share in list(alarms)[1:]:
                for _ in range(max(1, AT_ONCE // 10)):
                    window = [population[place] for place in generator.choice(others, size, replace=size > len(others))]
                    alarms[kind, share] += is_drift(reference, shifted(window, kind, share, common, generator))
                    tried[kind, share] += 1
        for (kind, share), count in alarms.items():
            of = tried[kind, share]
            low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
            high = float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
            rows.append(
                {
                    "population": name,
                    "size": size,
                    "shift": kind,
                    "share": share,
                    "windows": of,
                    "alarms": count / of,
                    "interval": [low, high],
                }
            )
            print(
                f"{name:12} {size:5d} {kind:10} {share:4.1f} {count / of:7.4f}  [{low:.4f}, {high:.4f}]  of {of}",
                flush=True,
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--windows", type=int, default=2_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    populations = {folder.name: of_run(folder) for folder in options.runs} or {"generated": generated(generator)}
    rows = [row for name, one in populations.items() for row in measure(name, one, options.windows, generator)]
    if options.out:
        options.out.write_text(json.dumps({"level": LEVEL, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
