"""``peftlab compare``: what two runs differ in, and how surely their models do."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peftlab.errors import UserError
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
    paired = _paired(*comparison["runs"])
    if options.json:
        print_json(comparison | {"paired": paired})
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
    print(f"\n{_said(paired)}")


def _paired(first: str, second: str) -> dict[str, Any]:
    """Return what the test predictions of both show, see `PairedModels`; else ``reason``, why they show nothing."""
    from peftlab.report.study import Run
    from peftlab.report.two_models import paired_models
    from peftlab.runs.record import RunRecord

    try:
        return asdict(paired_models(*(Run(RunRecord.load(Path(folder)), folder) for folder in (first, second))))
    except (ValueError, UserError) as error:
        return {"reason": str(error)}


def _said(paired: dict[str, Any]) -> str:
    if "reason" in paired:
        return f"The two models were not compared example by example: {paired['reason']}."
    difference = paired["difference"]
    units = "groups of examples" if paired["units"] == "groups" else "examples"
    over = "a single group of examples, which gives no interval"
    if difference["low"] is not None:
        limits = f"{difference['low']:+.4f} to {difference['high']:+.4f}"
        over = f"95 % interval {limits} over {difference['clusters']} {units}"
    tests = ", ".join(f"{test['name']}: p = {test['p']:.3g}" for test in paired["tests"])
    return (
        f"Test {paired['metric']}, the second model minus the first: {difference['value']:+.4f}, {over}; {tests}. The "
        f"second is right where the first is wrong in {paired['won']} examples, and the other way round in "
        f"{paired['lost']}. This is about these two models: with other seeds they would be others. `peftlab report` "
        "compares methods."
    )
