"""Write the table of this study from the records of its runs: python table.py RECORD..."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from peftlab.report.statistics.two_way import crossed, paired_crossed
from peftlab.runs.record import RunRecord


def main(files: list[str]) -> None:
    """Print mean and interval of each method over draws, and the paired differences at equal shots."""
    scores: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    for file in files:
        record = RunRecord.load(Path(file).parent)
        name, shots, draw = Path(file).parent.name.rsplit("-", 2)
        value = record.score("test", "accuracy")
        if record.data["status"] == "completed" and value is not None:
            scores[name, int(shots)][int(draw)] = value
    print("| method | shots a class | draws | test accuracy | 95 % interval | SD of draws |\n|---|---|---|---|---|---|")
    for (name, shots), by_draw in sorted(scores.items()):
        found = crossed(np.asarray([*by_draw.values()])[:, None])
        limits = "-" if found.low is None else f"{found.low:.4f} to {found.high:.4f}"
        spread = "-" if found.rows_sd is None else f"{found.rows_sd:.4f}"
        print(f"| {name} | {shots} | {len(by_draw)} | {found.value:.4f} | {limits} | {spread} |")
    print("\n| difference | shots a class | draws | mean | 95 % interval |\n|---|---|---|---|---|")
    for first, second in (("contrastive", "frozen"), ("contrastive", "classifier"), ("classifier", "frozen")):
        one, other = scores.get((first, 10), {}), scores.get((second, 10), {})
        if draws := sorted(one.keys() & other.keys()):
            tables = (np.asarray([side[draw] for draw in draws])[:, None] for side in (one, other))
            found = paired_crossed(*tables)
            limits = "-" if found.low is None else f"{found.low:+.4f} to {found.high:+.4f}"
            print(f"| {first} - {second} | 10 | {len(draws)} | {found.value:+.4f} | {limits} |")


if __name__ == "__main__":
    main(sys.argv[1:])
