"""``peftlab runs``: a table of runs, the newest first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from peftlab.runs.find import runs_below
from peftlab.terminal.arguments import add_json
from peftlab.terminal.output import cell, print_json, table

GROUP = "look"
SUMMARY = "a table of runs, the newest first"
DESCRIPTION = ""
EXAMPLES = (
    "peftlab runs                      # below runs/ and sweeps/",
    "peftlab runs sweeps/ner_lora      # the trials of a sweep",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where to look."""
    add_json(parser)
    parser.add_argument("folder", metavar="DIR", nargs="?", help="where to look; by default runs/ and sweeps/")


def execute(options: argparse.Namespace) -> None:
    """Print the table."""
    rows = runs_below(options.folder)
    if options.json:
        print_json(rows)
        return
    whole = [row for row in rows if "error" not in row]
    if whole:
        head = ["id", "name", "status", "metric", "validation", "test", "trainable", "seconds", "started"]
        print(table([head, *([cell(value) for value in _shown(row)] for row in whole)]))
    for row in rows:
        if "error" in row:
            print(f"{row['id']}: broken: {row['error']}")
    if not rows:
        print("no runs", file=sys.stderr)


def _shown(row: dict[str, Any]) -> Iterable[Any]:
    started = row["started_at"] and datetime.fromisoformat(row["started_at"]).astimezone().strftime("%Y-%m-%d %H:%M")
    parameters, seconds = row["trainable_parameters"], row["wall_seconds"]
    yield from (row[key] for key in ("id", "name", "status", "metric", "validation", "test"))
    yield from (parameters and f"{parameters:,}", seconds and f"{seconds:.0f}", started)
