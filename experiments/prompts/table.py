"""Write the tables of this study from its runs: python table.py FOLDER."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from peftlab.report.statistics.two_way import TwoWay, crossed, paired_crossed
from peftlab.runs.record import RunRecord

Cells = dict[tuple[str, str], dict[tuple[int, str], float]]
"""Test accuracy by kind and calibration, and by draw and pattern."""


def main(out: str) -> None:
    """Print accuracy over patterns and draws, with and without calibration, and prompts minus heads."""
    cells = read(Path(out))
    patterns = sorted({pattern for kind, _ in cells for _, pattern in cells[kind, _] if kind != "head"})
    print(f"| test accuracy | {' | '.join(patterns)} | mean | SD of patterns |")
    print(f"|---|{'---|' * (len(patterns) + 2)}")
    for (kind, calibration), values in sorted(cells.items()):
        if kind != "head":
            means = [np.mean([value for (_, name), value in values.items() if name == pattern]) for pattern in patterns]
            shown = " | ".join(f"{mean:.3f}" for mean in means)
            print(f"| {kind}, {calibration} | {shown} | {np.mean(means):.3f} | {np.std(means, ddof=1):.3f} |")
    print("\n| 16 a class | mean | 95 % interval | SD of draws | SD of patterns | rest |\n|---|---|---|---|---|---|")
    tables = {calibration: table(cells["prompt", calibration], patterns) for calibration in ("none", "contextual")}
    heads = cells["head", "none"]
    draws = sorted({draw for draw, _ in cells["prompt", "none"]} & {draw for draw, _ in heads})
    tables["head"] = np.asarray([[heads[draw, "none"]] * len(patterns) for draw in draws])
    for name, values in tables.items():
        print(f"| {name} | {row(crossed(values))} |")
    print(f"| none - head | {row(paired_crossed(tables['none'][: len(draws)], tables['head']))} |")
    print(f"| contextual - none | {row(paired_crossed(tables['contextual'], tables['none']))} |")


def read(out: Path) -> Cells:
    """Return the accuracy of all completed runs, of calibrated ones without their calibration too."""
    cells: Cells = defaultdict(dict)
    for file in sorted(out.glob("*/record.json")):
        record = RunRecord.load(file.parent)
        kind, pattern, calibration, draw = file.parent.name.split("-")
        accuracy = record.score("test", "accuracy")
        if record.data["status"] != "completed" or accuracy is None:
            continue
        cells[kind, calibration][int(draw), pattern] = accuracy
        if calibration != "none":
            cells[kind, "none"][int(draw), pattern] = uncalibrated(file.parent, record.data["data"]["labels"])
    return cells


def uncalibrated(run: Path, labels: list[str]) -> float:
    """Return the accuracy that a run has without its calibration, which divides probabilities by those of its shift."""
    tensors = load_file(run / "adapter" / "adapter_model.safetensors")
    (shift,) = (tensor for name, tensor in tensors.items() if name.endswith("shift"))
    right = []
    for line in (run / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        scores = [np.log(answer["probabilities"][label]) + own for label, own in zip(labels, shift, strict=True)]
        right.append(labels[int(np.argmax(scores))] == answer["gold"])
    return float(np.mean(right))


def table(values: dict[tuple[int, str], float], patterns: list[str]) -> np.ndarray:
    """Return the accuracy by draw and pattern, of the draws that have all patterns."""
    draws = sorted({draw for draw, _ in values})
    whole = [draw for draw in draws if all((draw, pattern) in values for pattern in patterns)]
    return np.asarray([[values[draw, pattern] for pattern in patterns] for draw in whole])


def row(found: TwoWay) -> str:
    """Return the cells of a row of the second table."""
    limits = "-" if found.low is None else f"{found.low:+.3f} to {found.high:+.3f}"
    parts = ["-" if part is None else f"{part:.3f}" for part in (found.rows_sd, found.columns_sd, found.rest_sd)]
    return " | ".join([f"{found.value:.3f}", limits, *parts])


if __name__ == "__main__":
    main(*sys.argv[1:])
