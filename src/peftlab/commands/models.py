"""``peftlab models``: what ``model=...`` there is."""

from __future__ import annotations

import argparse

from peftlab.terminal.arguments import add_json
from peftlab.terminal.output import print_json, table

GROUP = "look"
SUMMARY = "what model=... there is, and how large each is"
DESCRIPTION = "Nothing is fetched; a run fetches its model. Any other on the hub: model.source.repo=ORGANISATION/NAME."
EXAMPLES = (
    "peftlab models                   # all of them, small ones first",
    "peftlab models mpnet_base        # one of them, in detail",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model."""
    add_json(parser)
    parser.add_argument("model", metavar="NAME", nargs="?", help="one of them, in detail")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")


def execute(options: argparse.Namespace) -> None:
    """Print the table."""
    from peftlab.catalogue import model_table

    rows = list(model_table.rows([options.model] if options.model else []))
    if options.json:
        print_json([row.document() for row in rows])
    elif options.markdown:
        print(model_table.markdown(rows), end="")
    elif options.model:
        print(table([[key, value] for key, value in model_table.details(rows[0]).items()]))
    else:
        print(table([list(model_table.HEAD), *map(model_table.cells, rows)]))
