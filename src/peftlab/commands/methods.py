"""``peftlab methods``: what ``peft=...`` there is, and what each trains."""

from __future__ import annotations

import argparse

from peftlab.imports import without_collecting
from peftlab.terminal.arguments import add_json
from peftlab.terminal.output import print_json, table

GROUP = "look"
SUMMARY = "what peft=... there is, and what each trains"
DESCRIPTION = ""
EXAMPLES = (
    "peftlab methods                          # all of them, on a model of the sizes of BERT-base",
    "peftlab methods lora --model minilm      # one of them, in detail",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the method, and the model to count parameters on."""
    add_json(parser)
    parser.add_argument("method", metavar="NAME", nargs="?", help="one of them, in detail")
    parser.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="count on this model, one of conf/model/ or a folder; by default on one of the sizes of BERT-base",
    )
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")


def execute(options: argparse.Namespace) -> None:
    """Print the table."""
    with without_collecting():
        from peftlab.catalogue import method_table
        from peftlab.terminal.console import start_logging

    start_logging(stderr=True)
    rows = list(method_table.rows([options.method] if options.method else [], options.model))
    if options.json:
        print_json([row.document() for row in rows])
    elif options.markdown:
        print(method_table.markdown(rows), end="")
    elif options.method:
        print(table([[key, value] for key, value in method_table.details(rows[0]).items()]))
    else:
        numbers = ["trainable", "share", "MB", "merges", "tasks", "writes with", "learning rate"]
        head = ["method", "family", "paper", *numbers]
        abouts = [[row.about.name, row.about.family, row.about.authors or "-"] for row in rows]
        print(table([head, *(about + method_table.cells(row) for about, row in zip(abouts, rows, strict=True))]))
