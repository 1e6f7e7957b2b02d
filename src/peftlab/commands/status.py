"""``peftlab status``: how a sweep stands."""

from __future__ import annotations

import argparse
import sys

from peftlab.terminal.arguments import add_sweep
from peftlab.terminal.output import print_json

GROUP = "look"
SUMMARY = "how a sweep stands"
DESCRIPTION = ""
EXAMPLES = ("peftlab status ner_lora",)

add_arguments = add_sweep


def execute(options: argparse.Namespace) -> None:
    """Print the table of trials."""
    from peftlab.sweep import board

    document = board.read(board.find(options.sweep))
    if options.json:
        print_json(document)
        return
    from peftlab.sweep.display import print_status

    print_status(document)
    if document["status"] == "gone":
        print("its controller has died: the command of the sweep goes on with it", file=sys.stderr)
