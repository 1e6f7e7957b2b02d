"""Who an example is about or by: its group, by a column of the data, by terms in its text, or by several of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.data.identities.terms import NONE, THEMES, identities
from peftlab.data.rows.cells import groups_may_be_empty
from peftlab.errors import DataError, UserError
from peftlab.reading.words import WORD
from peftlab.runs.folder import RunFolder

_WORD = re.compile(WORD)

_FILE = re.compile(r".*\.[A-Za-z]\w{1,4}|\S+#\d+")
"""The name of a file, such as ``my shots/1.png``, or of a picture in one of many, ``t10k-images-idx3-ubyte#7``."""

KINDS = ("column", "terms", "entities")
"""How groups are found: ``column=NAME``, ``terms=THEME``, ``entities=THEME``."""


@dataclass(frozen=True)
class Attribute:
    """What divides examples into groups."""

    name: str
    """As the user wrote it, such as ``terms=gender``; of several, ``terms=gender & column=place``."""
    values: tuple[str | None, ...]
    """The group of each row; None for none, as a column may have any word."""

    def divided(self, fewest: int) -> tuple[np.ndarray, list[str], dict[str, int]]:
        """Return the number of each row's group, -1 for none, the groups' names, and the small groups with their sizes.

        Rows of no group are the background, which is compared with nothing, but where there is a single group.

        Args:
            fewest: groups with fewer rows are small: they have no number.
        """
        sizes = Counter(value for value in self.values if value is not None)
        names = sorted(name for name, size in sizes.items() if size >= fewest)
        small = {name: size for name, size in sorted(sizes.items()) if size < fewest}
        places: dict[str | None, int] = {name: place for place, name in enumerate(names)}
        if len(names) == 1 and self.values.count(None) >= fewest:
            places[None] = len(names)
            names.append(NONE)
        return np.array([places.get(value, -1) for value in self.values], int), names, small


def kind_of(spec: str) -> tuple[str, str]:
    """Return the kind and the name of ``column=NAME``, ``terms=THEME`` or ``entities=THEME``.

    Raises:
        UserError: it is none of these.
    """
    kind, _, name = spec.partition("=")
    if kind not in KINDS or not name:
        raise UserError(
            f"--groups {spec}: expected column=NAME, a column of the data; terms=THEME, what texts say; "
            f"entities=THEME, what gold entities say; with a file of terms, or {', '.join(THEMES)}; or names"
        )
    return kind, name


def of_terms(spec: str, theme: str, inputs: Iterable[Any]) -> Attribute:
    """Return the groups of which `inputs` have terms: texts, words, or lists and objects of them.

    Raises:
        DataError: there is no such theme or file, or it is malformed.
    """
    terms = identities(theme)
    labels = (terms.label(words_of(one)) for one in inputs)
    return Attribute(spec, tuple(None if label == NONE else label for label in labels))


def are_files(inputs: Sequence[Any]) -> bool:
    """Return whether inputs are the names of files, as those of tasks on pictures and recordings are."""
    return bool(inputs) and all(isinstance(one, str) and _FILE.fullmatch(one) for one in inputs)


def of_column(
    spec: str, column: str, folder: RunFolder, answers: Sequence[Mapping[str, Any]], beside: Path | None = None
) -> Attribute:
    """Return the values of a column for each answer: of a file of the user's, else of the data that the run has read.

    Answers whose cell is empty are a group of their own, ``(none)``: who does not say it may be failed, too.

    Args:
        spec: the name of the attribute.
        column: the name of the column.
        folder: the run's.
        answers: its answers, whose ids name the rows.
        beside: a file of rows with that column, and with ``id``; without, a row for each answer, in their order.

    Raises:
        UserError: the data has changed or cannot be read, there is no such column, or an answer has no row.
    """
    ids = [str(answer["id"]) for answer in answers]
    with groups_may_be_empty():
        values = _of_data(column, folder, ids) if beside is None else _of_file(column, beside, ids)
    if lost := [id for id in ids if id not in values]:
        raise DataError(f"{spec}: {len(lost):,} of {len(ids):,} examples have no row, {lost[0]} for one")
    return Attribute(spec, tuple(values[id] for id in ids))


def crossed(attributes: Sequence[Attribute]) -> Attribute:
    """Return the intersections of the groups of several attributes; rows without one of them are of no group."""
    rows = zip(*(attribute.values for attribute in attributes), strict=True)
    values = tuple(None if None in row else " & ".join(map(str, row)) for row in rows)
    return Attribute(" & ".join(attribute.name for attribute in attributes), values)


def words_of(one: Any) -> Iterator[str]:
    """Yield the words of a text, or of all texts in lists and objects."""
    if isinstance(one, str):
        yield from _WORD.findall(one)
    elif isinstance(one, Mapping):
        yield from words_of(list(one.values()))
    elif isinstance(one, Sequence):
        for part in one:
            yield from words_of(part)


def _of_data(column: str, folder: RunFolder, ids: Sequence[str]) -> dict[str, str]:
    from peftlab.data.attributes import by_column
    from peftlab.data.spec import digest_of
    from peftlab.data.splits import file_of
    from peftlab.specs import build, prefixes_of

    config = folder.read_config(unused=("callbacks", "logger", "regularizer", "augment"))
    data, prefixes = config["data"], prefixes_of(config)
    source, format = (build(data[key], f"data.{key}", prefixes) for key in ("source", "format"))
    fetched, names = source.fetch(), data["splits"]
    splits = dict.fromkeys(id.partition(":")[0] for id in ids)
    recorded = folder.record.data["identity"]["data_sha256"]
    for split in splits:
        if digest_of(format, fetched, file_of(names, split)) != recorded[split]:
            raise DataError(f"{fetched.origin}: {file_of(names, split)} is no longer what the run was scored on")
    read = by_column(format, column).read({split: fetched.file(file_of(names, split)) for split in splits})
    return {example.id: example.group for examples in read.values() for example in examples}


def _of_file(column: str, file: Path, ids: Sequence[str]) -> dict[str, str]:
    from peftlab.data.rows import cells
    from peftlab.data.rows.row_files import container_of

    def make(row: Mapping[str, Any], position: int, place: Any) -> tuple[str | None, str, str]:
        id = row.get("id")
        return None if id in (None, "") else str(id), cells.name(row, column, "group", place), str(place)

    rows = container_of(file).examples(file, (column, "id"), make, 2**62)
    if any(id is not None for id, *_ in rows):
        return _by_id(rows)
    if len(rows) != len(ids):
        raise DataError(
            f"{file}: {len(rows):,} rows for {len(ids):,} examples. Give each row the id of its example, as "
            "predictions/*.jsonl has it, in a column called id"
        )
    return {id: value for id, (_, value, _) in zip(ids, rows, strict=True)}


def _by_id(rows: Iterable[tuple[str | None, str, str]]) -> dict[str, str]:
    """Return the values of rows of an id, a value and a place, some of which have an id."""
    values: dict[str, str] = {}
    for id, value, place in rows:
        if id is None:
            raise DataError(f"{place}: has no id, and other rows have. Give each row the id of its example, or none")
        if values.setdefault(id, value) != value:
            raise DataError(f"{place}: {id} is '{value}', and '{values[id]}' in a row above. Remove one of them")
    return values
