"""Print what runs have learnt of their scope as a table: the mean over seeds, and the standard deviation.

python table.py RUN/record.json ...
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

HEAD = (
    *("run", "score", "seeds", "accuracy", "accepted"),
    *("AUROC near", "FPR95 near", "AUROC far", "FPR95 far", "coverage"),
)


def main() -> None:
    """Print it."""
    values: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for path in map(Path, sys.argv[1:]):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] == "completed":
            section = record["out_of_scope"]
            near, far = section["outside"]["near"], section["outside"]["far"]
            values[path.parent.name.split("-")[0], section["learnt"]["score"]].append(
                [
                    section["test"]["accuracy"],
                    section["test"]["accepted"],
                    *(near["auroc"], near["fpr95"], far["auroc"], far["fpr95"]),
                    section["conformal"]["coverage"],
                ]
            )
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for (run, score), rows in sorted(values.items()):
        cells = [_written(list(column)) for column in zip(*rows, strict=True)]
        print(f"| {run} | {score} | {len(rows)} | {' | '.join(cells)} |")


def _written(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
