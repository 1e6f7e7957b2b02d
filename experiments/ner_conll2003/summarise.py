"""Print the results of this study as Markdown, from the records of its finished runs.

python experiments/ner_conll2003/summarise.py [RUNS] > experiments/ner_conll2003/results.md
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from peftlab.runs.record import RunRecord

EXPERIMENTS = ("ner_lora", "ner_full")


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    print("| experiment | runs | test F1, mean ± SD | validation F1 | trainable | seconds a run | samples/s | GiB |")
    print("|---|---|---|---|---|---|---|---|")
    every = {name: completed(root / name) for name in EXPERIMENTS}
    for name, records in every.items():
        if records:
            print(row(name, records))
    print("\n| experiment | seed | test F1 | validation F1 | best at step | seconds | run | code |")
    print("|---|---|---|---|---|---|---|---|")
    for name, records in every.items():
        for record in records:
            print(
                f"| {name} | {record['environment']['seeds']['global']} | {f1(record, 'test'):.4f} "
                f"| {f1(record, 'validation'):.4f} | {record['selection']['step']} "
                f"| {record['cost']['wall_seconds']:.0f} | {record['run_id']} "
                f"| {(record['code']['commit'] or '')[:12]} |"
            )
    for record in [records[0] for records in every.values() if records][:1]:
        environment = record["environment"]
        print(
            f"\nScorer: {record['metrics'][0]['scorer']}. Hardware: {environment['cpu']} ({environment['isa']}), "
            f"{environment['threads']} threads, {environment['precision']}."
        )


def completed(folder: Path) -> list[dict[str, Any]]:
    """Return the records of whole, finished runs of the full budget, by seed."""
    records = [RunRecord.load(file).data for file in sorted(folder.glob("*/record.json"))]
    whole = [r for r in records if r["status"] == "completed" and r["data"]["splits"]["train"]["rows"] == 14041]
    return sorted(whole, key=lambda record: record["environment"]["seeds"]["global"])


def f1(record: dict[str, Any], split: str) -> float:
    return next(m["value"] for m in record["metrics"] if m["name"] == "entity_f1" and m["split"] == split)


def row(name: str, records: list[dict[str, Any]]) -> str:
    def spread(values: list[float]) -> str:
        if len(values) == 1:
            return f"{values[0]:.4f} (one run)"
        return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"

    def median(section: str, key: str) -> float:
        return statistics.median(record[section][key] for record in records)

    return (
        f"| {name} | {len(records)} | {spread([f1(r, 'test') for r in records])} "
        f"| {spread([f1(r, 'validation') for r in records])} | {median('method', 'trainable_parameters'):,.0f} "
        f"| {median('cost', 'wall_seconds'):.0f} | {median('cost', 'samples_per_second'):.0f} "
        f"| {median('cost', 'peak_memory_gib'):.2f} |"
    )


if __name__ == "__main__":
    main()
