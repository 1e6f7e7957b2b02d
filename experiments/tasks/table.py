"""Write results.md from the records of ``run.sh`` and the linear baselines on the same splits.

python experiments/tasks/table.py SWEEPS RESULTS
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

HEAD = (
    "| task | data | method | score | linear | peftlab, mean ± SD | seeds | difference | trainable | minutes |",
    "|---|---|---|---|--:|--:|--:|--:|--:|--:|",
)


def completed(folder: Path) -> list[dict[str, Any]]:
    """Return the records of the completed runs of a sweep, one for each seed, the newest that there is."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*/record.json"))]
    newest = sorted((one for one in records if one["status"] == "completed"), key=lambda one: one["started_at"])
    return list({one["environment"]["seeds"]["global"]: one for one in newest}.values())


def row(experiment: str, records: list[dict[str, Any]], linear: dict[str, Any] | None) -> str:
    """Return the line of an experiment."""
    first = records[0]
    metric = first["selection"]["metric"]
    scores = [
        next(one["value"] for one in record["metrics"] if (one["name"], one["split"]) == (metric, "test"))
        for record in records
    ]
    mean = statistics.fmean(scores)
    spread = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
    beside = ("-", "-") if linear is None else (f"{linear['test']:.3f}", f"{mean - linear['test']:+.3f}")
    minutes = statistics.median(record["cost"]["wall_seconds"] for record in records) / 60
    cells = [
        *(experiment, first["data"]["name"], first["method"]["name"], metric),
        *(beside[0], f"{mean:.3f}{spread}", str(len(scores)), beside[1]),
        *(f"{first['method']['trainable_parameters']:,}", f"{minutes:.1f}"),
    ]
    return f"| {' | '.join(cells)} |"


def main(sweeps: Path, results: Path) -> None:
    """Write the table."""
    file = results / "baselines.json"
    linear = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    lines = [
        "# Results",
        "",
        "Test scores of the checkpoint with the best validation score, beside a linear model on the same splits with "
        "the same scorer. Minutes are those of a run on a machine that did other work too.",
        "",
        *HEAD,
    ]
    for folder in sorted(one for one in sweeps.iterdir() if one.is_dir()):
        if records := completed(folder):
            lines.append(row(folder.name, records, linear.get(folder.name)))
    (results / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
