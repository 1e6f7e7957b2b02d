"""Print what ``peftlab robustness`` kept beside a run as a table: ``summarise.py RUN/robustness.json``."""

import json
import sys
from pathlib import Path

DETAILS = ("epsilon", "strength", "attacked", "success_rate", "queries_of_an_example", "words_changed_of_the_broken")

print("| perturbation | details | examples | clean | perturbed | drop (95 %) | broken | mended | p | queries | s |")
print("|---|---|---|---|---|---|---|---|---|---|---|")
for document in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
    metric = document["metric"]
    for one in document["outcomes"]:
        facts = ", ".join(
            f"{key.replace('_', ' ')} {one['details'][key]:.3g}" for key in DETAILS if key in one["details"]
        )
        drop, p = one["drop"], "-" if one["p"] is None else f"{one['p']:.2g}"
        print(
            f"| {one['perturbation']} | {facts} | {document['examples']} | {document['clean'][metric]:.4f} "
            f"| {one['scores'][metric]:.4f} | {drop['value']:+.4f} ({drop['low']:+.4f} to {drop['high']:+.4f}) "
            f"| {one['broken']} | {one['mended']} | {p} | {one['queries']:,} | {one['seconds']:.0f} |"
        )
