"""The table of the study: each kind of towers over its seeds, and how far it is ahead of the baselines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev

SCORES = ("hit@10", "ndcg@10", "mrr", "cold_hit@10", "cold_hit@50")


def main() -> None:
    """Print the table of the comparisons in a folder, Markdown."""
    kinds: dict[str, list[dict]] = {}
    for file in sorted(Path(sys.argv[1]).glob("*-*.json")):
        kinds.setdefault(file.stem.rpartition("-")[0], []).append(json.loads(file.read_text()))
    print(f"| | {' | '.join(SCORES)} |\n|---|{'---|' * len(SCORES)}")
    for kind, found in kinds.items():
        own = [[each["systems"][0]["scores"][name]["value"] for each in found] for name in SCORES]
        cells = [f"{mean(one):.4f}" + (f" ± {stdev(one):.4f}" if len(one) > 1 else "") for one in own]
        print(f"| **{kind}**, {len(found)} seeds | {' | '.join(cells)} |")
        for n, system in enumerate(found[0]["systems"][1:], 1):
            ahead = [[each["systems"][n]["ahead"][name] for each in found] for name in SCORES]
            # of several seeds, the least certain: the lowest lower limit and the highest upper one
            cells = [
                f"{mean(one['value'] for one in each):+.4f} [{min(one['low'] for one in each):+.3f}, "
                f"{max(one['high'] for one in each):+.3f}]"
                for each in ahead
            ]
            print(f"| ahead of {system['system']} | {' | '.join(cells)} |")
    for system in next(iter(kinds.values()))[0]["systems"][1:]:
        cells = [f"{system['scores'][name]['value']:.4f}" for name in SCORES]
        options = ", ".join(f"{key}={value}" for key, value in system["options"].items())
        print(f"| {system['system']} {options} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
