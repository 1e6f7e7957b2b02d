"""``peftlab reproduce``: train a run again, with a verdict."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from dataclasses import replace

from peftlab.commands import computing
from peftlab.report.unpacking import run_folder
from peftlab.terminal.arguments import add_run, folder_to_write
from peftlab.terminal.output import print_json

GROUP = "believe"
SUMMARY = "train a run again: identical, equivalent, different, incomplete or not comparable, and why"
DESCRIPTION = "The exit code is 0 only where the verdict is identical or equivalent."
EXAMPLES = (
    "peftlab reproduce 3f9c2a                   # trains, below reproductions/",
    "peftlab reproduce 3f9c2a --check-only      # the checks that need no training",
    "peftlab reproduce ner.zip:3f9c2a           # a run in an archive, see peftlab archive",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and how to train and compare it."""
    add_run(parser)
    parser.add_argument("--check-only", action="store_true", help="check what is recorded, without training")
    parser.add_argument(
        "--out", type=folder_to_write, metavar="DIR", help="train there; by default below reproductions/"
    )
    parser.add_argument(
        "--spread",
        type=float,
        metavar="S",
        help="how far scores may differ in another environment; by default the range over the runs beside it that "
        "differ in the seed alone, if there are 3, else 0.01 of the largest score there can be, or of the score itself",
    )


def execute(options: argparse.Namespace) -> None:
    """Print the verdict."""
    with run_folder(options.run) as (folder, name):
        with computing(folder):
            from peftlab.use.reproduce import reproduce

        with redirect_stdout(sys.stderr):  # the training prints lines of its own
            verdict = reproduce(folder, options.out, options.check_only, options.spread, options.allow)
    verdict = replace(verdict, run=name)
    if options.json:
        print_json(verdict.document())
    else:
        print(verdict.text())
    if not verdict.reproduced:
        sys.exit(1)
