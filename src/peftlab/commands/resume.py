"""``peftlab resume``: go on with a run that was interrupted or killed."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout

from peftlab.commands import computing
from peftlab.masking.streams import masked
from peftlab.runs.find import find
from peftlab.terminal.arguments import add_run
from peftlab.terminal.output import print_json

GROUP = "run"
SUMMARY = "go on with a run that was interrupted or killed"
DESCRIPTION = ""
EXAMPLES = ("peftlab resume 3f9c2a",)

add_arguments = add_run


def execute(options: argparse.Namespace) -> None:
    """Resume the run with its own configuration."""
    folder = find(options.run)
    with computing(folder, stderr=options.json):
        from peftlab.one_run import resume

    with redirect_stdout(sys.stderr if options.json else masked(sys.stdout)):
        record = resume(folder, options.allow)
    if options.json:
        print_json({"run": str(record.folder), **{key: record.data[key] for key in ("run_id", "status", "metrics")}})
