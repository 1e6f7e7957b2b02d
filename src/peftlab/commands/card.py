"""``peftlab card``: the model card of a run."""

from __future__ import annotations

import argparse

from peftlab.errors import UserError
from peftlab.imports import without_collecting
from peftlab.terminal.arguments import add_run, file_to_write
from peftlab.terminal.output import print_json

GROUP = "believe"
SUMMARY = "the model card of a run, in the form of the Hugging Face Hub"
DESCRIPTION = "Its scores are there only if they follow from the run's predictions; what no record says is 'unknown'."
EXAMPLES = (
    "peftlab card 3f9c2a                    # Markdown with a model-index",
    "peftlab card 3f9c2a --out README.md",
    "peftlab card ner.zip:3f9c2a            # of a run in an archive",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and the file."""
    add_run(parser)
    parser.add_argument("--out", type=file_to_write, metavar="FILE", help="a new file; by default the card is printed")


def execute(options: argparse.Namespace) -> None:
    """Write or print the card."""
    from peftlab.report.unpacking import run_folder
    from peftlab.storage.atomic import replacing

    out = options.out
    if out is not None and out.exists():
        raise UserError(f"'{out}' is there already: name a new file")
    with run_folder(options.run) as (folder, place):
        with without_collecting():
            from peftlab.use.described import card
        made = card(folder, place, options.allow)
    if out is not None:
        with replacing(out, elsewhere="name another file") as temporary:
            temporary.write_text(made.text, encoding="utf-8")
    if options.json:
        print_json({"metadata": made.metadata, "text": made.text})
    elif out is None:
        print(made.text, end="")
    else:
        print(out)
