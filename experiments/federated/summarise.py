"""Prints what federated, central and lone training come to, from the runs of ``run.sh``, as Markdown."""

from __future__ import annotations

import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from peftlab.runs.record import RunRecord


def main(folder: str) -> None:
    """Print a row for each kind of training: test scores over seeds, what projections lost, and what was sent."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    lost: dict[str, list[float]] = defaultdict(list)
    sent: dict[str, list[float]] = defaultdict(list)
    for file in sorted(Path(folder).glob("*/record.json")):
        record = RunRecord.load(file.parent)
        name, _, seed = file.parent.name.rpartition("-")
        value = record.score("test", "macro_f1")
        if record.data["status"] != "completed" or value is None:
            continue
        scores[re.sub(r"^(local-\w+)-\d+$", r"\1", name)][seed].append(value)
        if section := record.extensions.get("federated"):
            sent[name].append((section["bytes_up"] + section["bytes_down"]) / 1e6)
            lost[name] += [each["lost"] for each in section["rounds"] if "lost" in each]
    print("| training | seeds | test macro F1 | spread over seeds | lost a round | MB sent |\n|-|-|-|-|-|-|")
    for name, seeds in scores.items():
        means = [statistics.fmean(values) for values in seeds.values()]  # of one seed, over the clients
        spread = f"{statistics.stdev(means):.4f}" if len(means) > 1 else ""
        of_rounds = f"{statistics.fmean(lost[name]):.4f}" if lost[name] else ""
        bytes_ = f"{statistics.fmean(sent[name]):.0f}" if sent[name] else ""
        print(f"| {name} | {len(means)} | {statistics.fmean(means):.4f} | {spread} | {of_rounds} | {bytes_} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
