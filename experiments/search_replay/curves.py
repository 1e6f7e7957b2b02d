"""The learning curves of a sweep as CSV, one line a validation: python experiments/search_replay/curves.py SWEEP"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from peftlab.runs.record import RunRecord
from peftlab.sweep import board
from peftlab.sweep.ledger import evaluations

SWEPT = ("peft", "optimizer.lr", "optimizer.weight_decay", "model.dropout")


def main() -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow([*SWEPT, "fraction", "entity_f1", "train_seconds"])
    folder = Path(sys.argv[1])
    for trial in board.read(folder)["trials"]:
        run = RunRecord.load(folder / trial["run_id"])
        record = run.data
        if record["status"] != "completed":
            sys.exit(f"{trial['run_id']}: {record['status']}: give the command of the sweep again first")
        given = dict(text.lstrip("+").split("=", 1) for text in record["overrides"])
        seconds = record["cost"]["train_seconds"]
        for evaluation in evaluations(run):
            point = f"{evaluation.fraction:.4f}", f"{evaluation.value:.6f}"
            table.writerow([*(given[key] for key in SWEPT), *point, f"{seconds * evaluation.fraction:.2f}"])


if __name__ == "__main__":
    main()
