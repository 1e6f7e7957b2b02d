# ruff: noqa: N999 - named as the command is
"""``peftlab continue``: go on training a finished run on new data, without forgetting the old."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peftlab.commands import loaded
from peftlab.errors import UserError
from peftlab.masking.streams import masked
from peftlab.terminal.arguments import add_run, positive_whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "improve"
SUMMARY = "go on training a finished run on new data, without forgetting the old"
DESCRIPTION = (
    "The result is a run like any other. It is printed how both models score on the old test split and on the new one. "
    "New labels get rows of their own in the head."
)
EXAMPLES = (
    "peftlab continue 3f9c2a --data new.csv                    # with 5 old examples of each class",
    "peftlab continue 3f9c2a --data new.csv --method ewc       # without any old example",
    "peftlab continue 3f9c2a --data folder budget.max_epochs=2 # a value of the run, changed",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, the new data, and what keeps the old."""
    add_run(parser)
    parser.add_argument("values", metavar="KEY=VALUE", nargs="*", help="other values than those of the run")
    parser.add_argument(
        "--data", metavar="PATH", type=Path, required=True, help="a file or a folder in the format of the run's data"
    )
    parser.add_argument(
        "--method",
        choices=("replay", "ewc", "lwf", "none"),
        default="replay",
        help="replay: old training examples join the new ones (default); ewc, lwf: regularisers, without old examples; "
        "none: nothing is kept",
    )
    parser.add_argument(
        "--replay",
        type=_number,
        metavar="N",
        help="replay: examples of each class (default 5), or all",
    )


def _number(text: str) -> int | str:
    """Return a number of examples, or ``all``; raise ValueError if it is neither."""
    return text if text == "all" else positive_whole_number(text)


_number.__name__ = "number"  # argparse names the type in its message


def execute(options: argparse.Namespace) -> None:
    """Train, and print the scores before and after."""
    if options.replay is not None and options.method != "replay":
        raise UserError(f"--replay: with --method {options.method} no old example is learnt again; leave it out")
    run = loaded(options)
    from peftlab.continual.continuing import continue_run

    per_class = {None: 5, "all": None}.get(options.replay, options.replay)
    command = ["peftlab", "continue", *sys.argv[2:]]
    with redirect_stdout(sys.stderr if options.json else masked(sys.stdout)):
        result = continue_run(run, options.data, options.method, per_class, options.values, command)
    if options.json:
        changes = {name: asdict(change) for name, change in (("old", result.old), ("new", result.new))}
        labels = list(result.new_labels)
        print_json({"run": str(result.run.folder.path), "metric": result.metric, **changes, "new_labels": labels})
    else:
        _print(result)


def _print(result: Any) -> None:
    rows = [["test split", "before", "after", "change", "95 % interval"]]
    for name, change in (("old", result.old), ("new", result.new)):
        moved = "-" if change.before is None else f"{change.after - change.before:+.4f}"
        limits = "-" if change.low is None else f"{change.low:+.4f} to {change.high:+.4f}"
        rows.append([name, cell(change.before), cell(change.after), moved, limits])
    print(f"{result.metric} of the model before and after, on the same examples")
    print(table(rows))
    if result.new_labels:
        print(f"new labels: {', '.join(result.new_labels)}")
    print(f"run: {result.run.folder.path}")
