"""What the scorecards of a folder say of their texts, by table and kind: how often the text adds, and how much.

python experiments/credit_risk/summary.py runs/credit_risk
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    found: dict[str, list[dict]] = defaultdict(list)
    for file in sorted(folder.glob("*/scorecard.json")):
        found[file.parent.name.rpartition("-")[0]].append(json.loads(file.read_text(encoding="utf-8")))
    for name, results in found.items():
        gains = [one["gains"]["columns + text - columns"]["auc"] for one in results]
        values = np.array([gain["value"] for gain in gains])
        adds, takes = sum(gain["low"] > 0 for gain in gains), sum(gain["high"] < 0 for gain in gains)
        spread = f"{values.mean():+.4f} +- {values.std(ddof=1):.4f}" if len(values) > 1 else f"{values[0]:+.4f}"
        half = np.mean([(gain["high"] - gain["low"]) / 2 for gain in gains])
        aucs = {
            reads: np.mean([one["models"][reads]["auc"]["value"] for one in results]) for reads in results[0]["models"]
        }
        print(
            f"{name}: {len(gains)} seeds; AUC gain {spread}, interval +- {half:.4f}; adds in {adds}, "
            f"takes away in {takes}"
        )
        print("  " + ", ".join(f"{reads} {value:.3f}" for reads, value in aucs.items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
