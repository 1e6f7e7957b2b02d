"""``peftlab diff``: what training changed in a run's model, or how the models of two runs differ."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from peftlab.commands import loaded
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_run, file_to_write, finite_number, positive_whole_number, whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "improve"
SUMMARY = "what training changed: weights, hidden states, attention, answers"
DESCRIPTION = (
    "Of one run, against its pretrained model: that is kept in the run's folder, diff.json, and is no part of the "
    "record. Of two runs, against each other."
)
EXAMPLES = (
    "peftlab diff 3f9c2a                          # what training changed",
    "peftlab diff 3f9c2a 81bd07 --html diff.html  # what two runs of a model do differently, as a page",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, and what is measured."""
    add_run(parser)
    parser.add_argument("other", nargs="?", metavar="RUN", help="another run of the same pretrained model")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument(
        "--examples",
        type=whole_number,
        default=200,
        metavar="N",
        help="a random sample of so many; 0: all (default 200)",
    )
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of the sample (default 0)")
    parser.add_argument(
        "--top",
        type=positive_whole_number,
        default=10,
        metavar="K",
        help="leading directions of a matrix that are judged (default 10)",
    )
    parser.add_argument(
        "--below",
        type=finite_number,
        default=0.5,
        metavar="C",
        help="cosine below which it is an intruder (default 0.5)",
    )
    parser.add_argument(
        "--html", type=file_to_write, metavar="FILE", help="also write a page with all matrices and a figure"
    )


def execute(options: argparse.Namespace) -> None:
    """Measure, and print a table of the weights and one of the blocks."""
    if not 0 < options.below < 1:
        raise UserError(f"--below {options.below:g}: expected a cosine between 0 and 1")
    if options.html and not options.html.parent.is_dir():
        raise UserError(f"--html {options.html}: there is no such folder")
    run = loaded(options)
    from peftlab.reading.json_form import finite
    from peftlab.report.sections.changes import page
    from peftlab.use.differing.diff import Settings
    from peftlab.use.finished import load

    other = load(options.other, options.allow) if options.other else None
    result = run.diff(
        other, Settings(options.examples or None, options.split, options.top, options.below, options.seed)
    )
    document = finite(result.document())
    if options.html:
        options.html.write_text(page(document), encoding="utf-8")
    if options.json:
        print_json(document)
    else:
        _print(document)


def _print(document: Mapping[str, Any]) -> None:
    from peftlab.report.document import Paragraph, Table
    from peftlab.report.sections.changes import sections_of

    print(f"from: {document['before']}\nto:   {document['after']}")
    for section in sections_of(document):
        print(f"\n{cell(section.title)}")
        for block in section.blocks:
            if isinstance(block, Table):
                rows = [[cell(value.text) for value in row] for row in block.rows]
                print(table([[column.title for column in block.columns], *rows]))
            elif isinstance(block, Paragraph):
                print(cell(block.text))
