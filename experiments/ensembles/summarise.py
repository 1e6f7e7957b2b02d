"""Print what ``peftlab ensemble --json`` said of each ensemble as tables: ``summarise.py FOLDER``, of TASK.HOW.json."""

import json
import sys
from pathlib import Path

HOWS = ("average", "vote", "soup", "greedy_soup", "ties", "dare", "arithmetic", "swag")


def gain(found: dict | None) -> str:
    return "-" if found is None else f"{found['value']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"


def row(name: str, line: dict, over_mean: str = "", over_best: str = "") -> str:
    numbers = [f"{line[key]:.4f}" for key in ("validation", "test", "ece")]
    return f"| {' | '.join([name, *numbers, over_mean, over_best])} | {line['parameters']:,} | {line['seconds']:.1f} |"


kept = {file.name.split(".")[0]: {} for file in sorted(Path(sys.argv[1]).glob("*.*.json"))}
for task, documents in kept.items():
    for how in HOWS:
        if (file := Path(sys.argv[1]) / f"{task}.{how}.json").is_file():
            documents[how] = json.loads(file.read_text(encoding="utf-8"))
    first = next(iter(documents.values()))
    print(f"## {task}: {first['metric']} ({first['scorer']}), intervals over {first['units']}\n")
    print("| model | validation | test | ECE | over the mean single (95 %) ", end="")
    print("| over the best by validation (95 %) | parameters | CPU s for 1,000 |\n|---|---|---|---|---|---|---|---|")
    for line in first["members"]:
        print(row(f"seed {line['seed']}{' (best by validation)' if line['id'] == first['best'] else ''}", line))
    for how, document in documents.items():
        if how == "swag":
            print(row("constant rate, seed 0: SWAG's run", document["members"][0]))
        print(row(how, document["ensemble"], gain(document["over_mean"]), gain(document["over_best"])))
    print()
