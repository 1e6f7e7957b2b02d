"""Print the scores and the audits of the runs in a folder, as a table: python summarise.py RUNS."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from peftlab.runs.record import RunRecord


def spread(values: list[float]) -> str:
    """Return mean and standard deviation over the seeds."""
    if not values:
        return "-"
    return f"{statistics.mean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def audited(folder: Path, key: str) -> float | None:
    """Return a number of the last audit of a run, wherever it lies in it; None: there is none."""
    file = folder / "audit.json"
    if not file.is_file():
        return None
    waiting = [json.loads(file.read_text())]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, dict):
            if key in node:
                value = node[key]["value"] if isinstance(node[key], dict) else node[key]
                return None if value is None else float(value)
            waiting += node.values()
        elif isinstance(node, list):
            waiting = [*reversed(node), *waiting]
    return None


def main() -> None:
    """Print a row for each epsilon."""
    columns = (
        "epsilon",
        "noise",
        "steps",
        "seeds",
        "macro F1",
        "accuracy",
        "clipped",
        "attack AUC",
        "CPU s of training",
    )
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for epsilon in ("none", "8", "1"):
        folders = sorted(Path(sys.argv[1]).glob(f"epsilon_{epsilon}.seed_*"))
        records = [RunRecord.load(folder) for folder in folders if (folder / "record.json").is_file()]
        if not records:
            continue
        private = [record.extensions.get("privacy", {}) for record in records]
        scores = {name: [record.score("test", name) for record in records] for name in ("macro_f1", "accuracy")}
        aucs = [auc for folder in folders if (auc := audited(folder, "auc")) is not None]
        cells = (
            epsilon,
            f"{private[0].get('noise_multiplier', 0):.3f}",
            str(records[0].data["cost"]["steps"]),
            str(len(records)),
            *(spread([value for value in values if value is not None]) for values in scores.values()),
            spread([own["clipped"] for own in private if "clipped" in own]),
            spread(aucs),
            f"{statistics.mean(record.data['cost']['train_seconds'] for record in records):.0f}",
        )
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
