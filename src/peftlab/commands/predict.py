"""``peftlab predict``: what a run's model finds in texts."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import chain
from typing import Any

from peftlab.commands import loaded
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_run
from peftlab.terminal.output import cell, table

GROUP = "use"
SUMMARY = "what a run's model finds in texts"
DESCRIPTION = "The exit code is 1 where a line of a file has no answer; the others have theirs."
EXAMPLES = (
    'peftlab predict 3f9c2a "Marie Curie moved from Warsaw to Paris."',
    "peftlab predict 3f9c2a --file texts.txt --json        # a text a line; prints an answer a line",
    "peftlab predict 3f9c2a --jsonl tickets.jsonl          # an object a line",
)

CHUNK = 1024
"""How many texts are predicted at once: each chunk is sorted by length, and its answers are printed when it is done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and the source of the texts."""
    add_run(parser)
    parser.add_argument("texts", metavar="TEXT", nargs="*")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--file", metavar="FILE", help="one text a line; - is stdin")
    source.add_argument(
        "--jsonl",
        metavar="FILE",
        help="one JSON object a line, with `text` and what else the task takes (`words`, or `text_pair`), or as the "
        "run's data calls them; its other keys are passed on, as given_KEY where an answer has KEY; - is stdin; prints "
        "JSON",
    )


def execute(options: argparse.Namespace) -> None:
    """Print an answer for each text as it becomes available; for a line without one, the reason in its place."""
    if bool(options.texts) == bool(options.file or options.jsonl):
        raise UserError("predict takes texts, --file FILE or --jsonl FILE, one of them")
    run = loaded(options)
    show = _as_json if options.json or options.jsonl else _for_people
    if options.texts:
        for answer in run.predict(options.texts):
            print(show(answer))
        return
    from peftlab.use.inputs import lines, objects, source_of
    from peftlab.use.predictor import Refused

    source = source_of(options.jsonl or options.file)
    count = refused = 0
    texts = objects(options.jsonl) if options.jsonl else lines(options.file)
    for count, result in enumerate(run.answers(texts, CHUNK), start=1):
        refused += isinstance(result, Refused)
        print(show(result.at(f"{source}:{count}") if isinstance(result, Refused) else result))
    if refused:
        print(f"error: {refused} of {count} lines have no answer; each says why", file=sys.stderr)
        sys.exit(1)


def _as_json(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False)


def _for_people(answer: dict[str, Any]) -> str:
    """Return the text, and below it the results, one a line; nested objects are shown in JSON only."""
    text = answer.pop("text", "")
    if (error := answer.get("error")) is not None:
        return f"{text}\n  error: {error}"
    notes = {key: value for key, value in answer.items() if isinstance(value, int)}
    others = [value for key, value in answer.items() if key not in notes]
    lists = [value for value in others if isinstance(value, list)]
    rows = [[cell(part) for part in one.values()] for one in chain(*lists) if isinstance(one, dict)]
    columns = [value for value in lists if not any(isinstance(one, dict) for one in value)]
    rows += [list(map(cell, row)) for row in zip(*columns, strict=True)]  # such as labels and their probabilities
    if single := [cell(value) for value in others if not isinstance(value, list | dict)]:
        rows.insert(0, single)
    shown = f"{text}\n{table(rows, indent='  ')}" if rows else f"{text}\n  -"
    remarks = [key if value is True else f"{value} {key}" for key, value in notes.items()]
    return f"{shown}\n  ({', '.join(remarks).replace('_', ' ')})" if remarks else shown
