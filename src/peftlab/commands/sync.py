"""``peftlab sync``: send what W&B kept offline for a sweep to the server."""

from __future__ import annotations

import argparse
import sys

from peftlab.terminal.arguments import add_sweep
from peftlab.terminal.output import print_json

GROUP = "keep"
SUMMARY = "send what W&B kept offline for a sweep to the server"
DESCRIPTION = "What has been sent is not sent again. The exit code is 1 where something could not be sent."
EXAMPLES = ("peftlab sync ner_lora",)

add_arguments = add_sweep


def execute(options: argparse.Namespace) -> None:
    """Send it, and print the state of each folder."""
    from peftlab.sweep import board
    from peftlab.sweep.wandb_sync import sync

    states = sync(board.find(options.sweep))
    if options.json:
        print_json(states)
    else:
        for state, folders in states.items():
            print(f"{state}: {len(folders)}", *folders, sep="\n  ")
    if states["failed"]:
        sys.exit(1)
