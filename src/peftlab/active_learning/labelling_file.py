"""Files between a loop and the people who label: the pool, what is asked, and the answers.

Texts with one label are asked about in CSV, which spreadsheets open; words and texts with several labels in JSON Lines.
The model's own guess is not among the columns: whoever sees it tends to agree.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peftlab.data.cleaning.listing import as_cell
from peftlab.data.delimited_rows import delimiter_of, likelier, rows_of
from peftlab.data.json_objects import read_object
from peftlab.data.labelled import check_labels, gold_name, labelled_example
from peftlab.data.text_files import read_text
from peftlab.errors import DataError, did_you_mean
from peftlab.storage.atomic import replacing
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.task import Task

UNDECIDED = "?"
"""The answer of somebody who cannot decide: the example is left out, and not asked about again."""

_TEXTS = ("text", "text_pair", "words")
"""The keys of what is shown."""
_SHOWN = 5
"""Most ids in a message."""


def suffix_of(task: Task) -> str:
    """Return the suffix of the files in which people label examples of this task."""
    return ".csv" if gold_name(task) == "label" else ".jsonl"


def read_pool(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a pool, each with an ``id``: its own, or ``pool:0``, ``pool:1``, ...

    Args:
        path: CSV or TSV with a header, or JSON Lines (``.jsonl``, ``.json``), with ``text`` or ``words``.

    Raises:
        DataError: it cannot be read, is empty, or two of its objects share an id.
    """
    pool: dict[str, dict[str, Any]] = {}
    for number, (where, one) in enumerate(_objects(path)):
        own = one.get("id")
        id = f"pool:{number}" if _is_blank(own) else str(own)  # 0 is an id
        if id in pool:
            raise DataError(f"{where}: a second object with the id '{id}'; each needs its own, or none")
        pool[id] = {**one, "id": id}
    if not pool:
        raise DataError(f"{path}: holds no text to ask about")
    return list(pool.values())


def shown(example: Any) -> dict[str, Any]:
    """Return what is shown of an example of a pool: its ``id``, and its ``words``, or its ``text`` and ``text_pair``.

    Words are shown even where the pool has a text, as each of them has a tag.
    """
    if isinstance(example, Sentence):
        return {"id": example.id, "words": list(example.words)}
    pair = getattr(example, "pair", None)
    return {"id": example.id, "text": example.text} | ({} if pair is None else {"text_pair": pair})


def write_questions(path: Path, objects: Sequence[Mapping[str, Any]], task: Task) -> None:
    """Write a file in which people label `objects` of a pool."""
    gold = gold_name(task)
    if path.suffix == ".csv":
        columns = ["id", *(key for key in _TEXTS if any(key in one for one in objects)), gold]
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: as_cell(one.get(key, "")) for key in columns[:-1]} | {gold: ""} for one in objects)
        content = out.getvalue()
    else:
        shown = ({key: one[key] for key in ("id", *_TEXTS) if key in one} | {gold: None} for one in objects)
        content = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in shown)
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def read_answers(path: Path, objects: Sequence[Mapping[str, Any]], task: Task) -> list[dict[str, Any]] | None:
    """Return the objects with the labels that people gave them, without those that they could not decide on.

    Only ids and labels are read: what spreadsheets do to texts does not matter.

    Args:
        path: the file that `write_questions` wrote about `objects`.
        objects: those of the pool.
        task: knows the labels that are allowed.

    Returns:
        the labelled objects in the order of `objects`; None if no label has been given yet.

    Raises:
        DataError: some labels are missing, an id is missing, changed or there twice, or a label is none of the task's.
    """
    gold = gold_name(task)
    asked = {str(one["id"]): dict(one) for one in objects}
    given: dict[str, tuple[str, Any]] = {}
    for where, one in _objects(path):
        if gold not in one or "id" not in one:
            missing = gold if "id" in one else "id"
            raise DataError(f"{where}: there is no '{missing}'; leave the columns as they were written")
        id = str(one["id"])
        if id not in asked:  # as a cell, it may have an apostrophe in front
            id = id.removeprefix("'")
        if id in given:
            raise DataError(f"{where}: the id '{id}' is there twice; remove one of the rows")
        given[id] = (where, one[gold])
    if foreign := [id for id in given if id not in asked]:
        raise DataError(
            f"{path}: was not asked about {_named(foreign)}.{did_you_mean(foreign[0], set(asked) - set(given))} Leave "
            "the ids as they were written"
        )
    if gone := [id for id in asked if id not in given]:
        raise DataError(
            f"{path}: {_named(gone)} {'is' if len(gone) == 1 else 'are'} gone; put the rows back, with "
            f"{UNDECIDED} as label where nobody can decide"
        )
    blank = [id for id, (_, answer) in given.items() if _is_blank(answer)]
    if len(blank) == len(given):
        return None
    if blank:
        raise DataError(
            f"{path}: {len(blank)} of {len(given)} have no {gold} yet: {_named(blank)}; fill them in, with "
            f"{UNDECIDED} where nobody can decide"
        )
    labelled, examples = [], []
    for id, one in asked.items():
        where, answer = given[id]
        if answer == UNDECIDED and UNDECIDED not in task.labels:
            continue
        labelled.append({key: one[key] for key in ("id", *_TEXTS) if key in one} | {gold: answer})
        file, _, line = where.rpartition(":")
        try:
            examples.append(labelled_example(task, labelled[-1], id, file, int(line)))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    check_labels(task, examples)
    return labelled


def _objects(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the objects in a file of JSON Lines, or the rows of one with a header, each with its file and line."""
    content = read_text(path)
    if path.suffix in (".jsonl", ".json"):
        lines = content.split("\n")
        return [
            (f"{path}:{n}", read_object(line, f"{path}:{n}", 'such as {"text": ...}', lines[n:]))
            for n, line in enumerate(lines, start=1)
            if line.strip()
        ]
    delimiter = delimiter_of(path, content)
    if not content.lstrip().partition("\n")[0].count(delimiter):  # a spreadsheet of another country has saved it
        delimiter = likelier(path, content, delimiter, True) or delimiter
    rows = list(rows_of(path, content, delimiter, True))
    if not rows:
        return []
    names = [name.strip() for name in rows[0].fields]
    for row in rows[1:]:
        if len(row.fields) != len(names):
            raise DataError(
                f"{path}:{row.line}: expected {len(names)} columns as in its header, found {len(row.fields)}"
            )
    return [(f"{path}:{row.line}", dict(zip(names, row.fields, strict=True))) for row in rows[1:]]


def _is_blank(answer: Any) -> bool:
    return answer is None or (isinstance(answer, str) and not answer.strip())


def _named(ids: Sequence[str]) -> str:
    more = len(ids) - _SHOWN
    return ", ".join(map(repr, ids[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
