"""Reads templates.

A file has a sentence a line, with ``{name}`` once in it; a label may stand before it, with a bar between them:
``positive | Working with {name} was a pleasure.`` Lines that begin with ``#`` are comments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError
from peftlab.scores.bio import entities
from peftlab.tasks.inputs.splitting import words_of

PERSONS, SENTIMENT = (Path(__file__).parent / f"{name}.txt" for name in ("persons", "sentiment"))
"""The package's own, in English: to find people in, and with a sentiment that is the same whoever is meant."""

SLOT = "{name}"


@dataclass(frozen=True)
class Template:
    """A sentence with a place for a name."""

    before: tuple[str, ...]
    """The words before the name."""
    after: tuple[str, ...]
    text: str | None = None
    """The sentence as it is written, with ``{name}``; None: it is only known as words."""
    label: str | None = None
    """Its label, whoever is meant; None: it has none."""

    def words(self, name: str) -> list[str]:
        """Return the words of the sentence about `name`, which is one word."""
        return [*self.before, name, *self.after]

    def about(self, name: str) -> str:
        """Return the sentence about `name`."""
        return " ".join(self.words(name)) if self.text is None else self.text.replace(SLOT, name)


def read_templates(file: Path) -> list[Template]:
    """Return the templates in a file.

    Raises:
        DataError: it has fewer than two, or a line has no ``{name}``, or several; names the line.
    """
    templates = []
    for number, line in enumerate(lines_of(read_text(file)), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        label, bar, text = line.partition("|")
        label, text = (label.strip(), text.strip()) if bar else ("", line.strip())
        if text.count(SLOT) != 1:
            raise DataError(f"{file}:{number}: {SLOT} stands in it {text.count(SLOT)} times; expected once")
        before, after = text.split(SLOT)
        templates.append(Template(_words(before), _words(after), text, label or None))
    if len(templates) < 2:
        raise DataError(f"{file}: {len(templates)} templates; at least two are needed, and fifty say more")
    return templates


def from_sentences(rows: Iterable[Mapping[str, Any]], person: str, number: int, seed: int) -> list[Template]:
    """Return templates from sentences with people in them: the first one's name makes way, the others stay.

    Args:
        rows: predictions of a run with ``input``, words, and ``gold``, their tags.
        person: the type of people.
        number: how many sentences, a random choice by `seed`.
        seed: of the choice.

    Raises:
        DataError: fewer than two sentences have a person in them.
    """
    templates = []
    for row in rows:
        for type_, start, end in entities(row["gold"]):
            if type_ == person:
                templates.append(Template(tuple(row["input"][:start]), tuple(row["input"][end:])))
                break
    if len(templates) < 2:
        raise DataError(f"{len(templates)} test sentences have an entity of the type {person}; at least two are needed")
    chosen: Sequence[int] = np.random.default_rng(seed).permutation(len(templates))[:number].tolist()
    return [templates[n] for n in sorted(chosen)]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text[start:end] for start, end in words_of(text))
