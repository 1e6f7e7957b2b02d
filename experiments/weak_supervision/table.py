"""Prints the table of the study: rules in place of labels, against 16 and 64 labels of each class.

    python experiments/weak_supervision/table.py RUNS RESULTS

RUNS is the folder of the runs, RESULTS the Markdown file that the table is written to as well.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from peftlab.report.statistics.crossed import difference, expected
from peftlab.report.statistics.measured import Measured, score_of
from peftlab.runs.folder import read_predictions
from peftlab.scores.class_scores import ClassScores

LABELS = ["negative", "neutral", "positive"]
METHODS = {
    "weak-majority": "12 rules, majority",
    "weak-generative": "12 rules, generative, weighted",
    "gold-16": "16 labels a class",
    "gold-64": "64 labels a class",
}


def main(runs: Path, results: Path) -> None:
    lines = [quality(runs, model) for model in ("majority", "generative")]
    lines += [
        "",
        "| trained on | macro F1 | minus 16 labels a class | minus 64 labels a class | accuracy |",
        "|---|---|---|---|---|",
    ]
    measured = {metric: {name: measure(runs, name, metric) for name in METHODS} for metric in ("macro_f1", "accuracy")}
    for name, title in METHODS.items():
        f1, accuracy = (interval(expected(measured[metric][name])) for metric in ("macro_f1", "accuracy"))
        minus = [
            "-"
            if name == other
            else interval(difference(measured["macro_f1"][name], measured["macro_f1"][other], True), "+")
            for other in ("gold-16", "gold-64")
        ]
        lines.append(f"| {title} | {f1} | {minus[0]} | {minus[1]} | {accuracy} |")
    lines += [
        "",
        "Intervals of 95 % cover other seeds, with other shots, and other test tweets; differences are paired by seed.",
    ]
    results.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def measure(runs: Path, name: str, metric: str) -> Measured:
    """Return the scores of a method's runs, over the tweets in the order of their texts."""
    scorer = ClassScores(LABELS)
    counts = {}
    for folder in sorted(runs.glob(f"{name}-[0-9]*")):
        answers = sorted(
            read_predictions(folder / "predictions" / "test.jsonl"), key=lambda answer: str(answer["input"])
        )
        counts[int(folder.name.rpartition("-")[2])] = np.asarray([scorer.total([answer]) for answer in answers])
    return Measured.of_counts(METHODS[name], counts, score_of(scorer, metric))


def interval(estimate: object, sign: str = "") -> str:
    value, low, high = (getattr(estimate, key) for key in ("value", "low", "high"))
    return f"{value:{sign}.3f}" + ("" if low is None else f" ({low:{sign}.3f} to {high:{sign}.3f})")


def quality(runs: Path, model: str) -> str:
    """Return how many tweets the rules label, and how many of the labels are right; nobody chose anything by it."""
    gold = {row["text"]: row["label"] for row in rows(runs / "tweets" / "gold.jsonl")}
    labelled = list(rows(runs / model / "train.jsonl"))
    right = np.mean([gold[row["text"]] == row["label"] for row in labelled])
    return f"{model}: {len(labelled):,} of {len(gold):,} tweets labelled, {right:.3f} of them rightly"


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="\n") as lines:  # texts may hold other ends of lines
        return [json.loads(line) for line in lines]


main(*map(Path, sys.argv[1:3]))
