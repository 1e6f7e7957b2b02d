"""``peftlab compare``: what two runs differ in."""

from __future__ import annotations

import argparse

from peftlab.terminal.arguments import add_json
from peftlab.terminal.output import cell, print_json, table

GROUP = "look"
SUMMARY = "what two runs differ in"
DESCRIPTION = ""
EXAMPLES = ("peftlab compare 3f9c2a 8b1e0d",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two runs."""
    add_json(parser)
    parser.add_argument("runs", metavar="RUN", nargs=2, help="as with the other commands")


def execute(options: argparse.Namespace) -> None:
    """Print the differences."""
    from peftlab.runs.compare import compare

    comparison = compare(*options.runs)
    if options.json:
        print_json(comparison)
        return
    rows = [["", *comparison["runs"], ""]]
    for section, differences in comparison.items():
        if isinstance(differences, dict):
            rows += [[f"{section}: {key}", *map(cell, values), ""] for key, values in differences.items()]
    for score in comparison["scores"]:
        difference = score["difference"]
        shown = "" if difference is None else f"{difference:+.4f}"
        rows.append([f"{score['split']} {score['name']}", *map(cell, score["values"]), shown])
    print(table(rows))
