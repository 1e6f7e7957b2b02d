"""The runs of the study as CSV, one a line: python experiments/method_axis/runs.py SWEEP"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from peftlab.runs.record import RunRecord

ABOUT = ["method", "phase", "lr", "seed", "run"]
MEASURED = ["validation_f1", "test_f1", "trainable_parameters", "adapter_bytes", "steps"]
COST = ["train_seconds", "wall_seconds", "samples_per_second", "peak_memory_gib"]


def main() -> None:
    table = csv.DictWriter(sys.stdout, [*ABOUT, *MEASURED, *COST], lineterminator="\n")
    table.writeheader()
    records = [RunRecord.load(file.parent).data for file in Path(sys.argv[1]).glob("*/record.json")]
    rows = [row(record) for record in records if record["status"] == "completed"]
    table.writerows(sorted(rows, key=lambda one: (one["method"], one["phase"], float(one["lr"]), one["seed"])))


def row(record: dict[str, Any]) -> dict[str, Any]:
    given = dict(text.lstrip("+").split("=", 1) for text in record["overrides"])
    scores = {metric["split"]: metric["value"] for metric in record["metrics"] if metric["name"] == "entity_f1"}
    about = [given["peft"], "final" if "test" in scores else "search", given["optimizer.lr"]]
    about += [record["environment"]["seeds"]["global"], record["run_id"]]
    measured = [f"{scores['validation']:.6f}", f"{scores['test']:.6f}" if "test" in scores else ""]
    measured += [record["method"]["trainable_parameters"], record["method"]["adapter_bytes"], record["cost"]["steps"]]
    cost = [record["cost"][name] for name in COST]
    return dict(zip([*ABOUT, *MEASURED, *COST], [*about, *measured, *cost], strict=True))


if __name__ == "__main__":
    main()
