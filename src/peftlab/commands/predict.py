"""``peftlab predict``: what a run's model finds in texts."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from peftlab.commands import loaded
from peftlab.errors import DataError, UserError
from peftlab.terminal.arguments import add_run
from peftlab.terminal.output import cell, table

GROUP = "use"
SUMMARY = "what a run's model finds in texts"
DESCRIPTION = ""
EXAMPLES = (
    'peftlab predict 3f9c2a "Marie Curie moved from Warsaw to Paris."',
    "peftlab predict 3f9c2a --file texts.txt --json        # a text a line; prints an answer a line",
    "peftlab predict 3f9c2a --jsonl tickets.jsonl          # an object a line",
)

CHUNK = 1024
"""How many texts are predicted at once: they are sorted by length, and answers come as they are there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and where the texts come from."""
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
    """Print an answer for each text, as they are there."""
    if bool(options.texts) == bool(options.file or options.jsonl):
        raise UserError("predict wants texts, --file FILE or --jsonl FILE, one of them")
    run = loaded(options)
    texts = objects(options.jsonl, run.predictor) if options.jsonl else options.texts or lines(options.file)
    for answer in run.answers(texts, CHUNK):
        print(json.dumps(answer, ensure_ascii=False) if options.json or options.jsonl else _for_people(answer))


def lines(name: str) -> Iterator[str]:
    """Yield the lines of the file `name`, or of stdin where it is ``-``.

    Raises:
        DataError: it cannot be read.
    """
    from peftlab.data.text_files import lines_from
    from peftlab.sources import oddity

    if name == "-":  # bytes, whatever encoding the locale expects
        yield from lines_from(getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode()), "stdin")
        return
    is_handed_over = re.fullmatch(r"/dev/(stdin|fd/\d+)", name)  # a pipe that somebody writes into, as in <(command)
    if not is_handed_over and (odd := oddity(Path(name))):
        raise DataError(f"{name}: is {odd}. Name a file, or - for stdin.")
    try:
        with Path(name).open("rb") as file:
            yield from lines_from(file, name)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}). Name a file that can be.") from error


def objects(name: str, predictor: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in the file `name`, each of which `predictor` can take.

    Raises:
        DataError: a line holds no such object; names the line.
    """
    from peftlab.data.json_lines import read_object

    left, source = lines(name), "stdin" if name == "-" else name
    for number, line in enumerate(left, start=1):
        one = read_object(line, f"{source}:{number}", 'such as {"text": ...}', left)
        try:
            predictor.example(one, "")
        except DataError as error:
            raise DataError(f"{source}:{number}: {error}") from error
        yield one


def _for_people(answer: dict[str, Any]) -> str:
    """Return the text, and below it what was found, a line each; objects are left to JSON."""
    text = answer.pop("text")
    notes = {key: value for key, value in answer.items() if isinstance(value, int)}
    others = [value for key, value in answer.items() if key not in notes]
    rows = [[cell(part) for part in one.values()] for one in chain(*(v for v in others if isinstance(v, list)))]
    if single := [cell(value) for value in others if not isinstance(value, list | dict)]:
        rows.insert(0, single)
    shown = f"{text}\n{table(rows, indent='  ')}" if rows else f"{text}\n  -"
    said = [key if value is True else f"{value} {key}" for key, value in notes.items()]
    return f"{shown}\n  ({', '.join(said).replace('_', ' ')})" if said else shown
