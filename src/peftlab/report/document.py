"""The parts of a report, whatever file it becomes: sections of paragraphs, tables, figures and lists.

A section is made once and written by every writer (HTML, Markdown, LaTeX). Texts are plain: a writer escapes them.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["note", "warning", "error"]
"""How much a finding matters: good to know; weakens a claim; forbids it."""

_LONGEST_NAME = 40


def link_name(text: str) -> str:
    """Return a name for files and links that stands for `text`, such as ``lora-r-8`` for ``LoRA r=8``.

    A text with other letters than those of ASCII, or a long one, ends with the start of its digest, so that two of them
    have two names.
    """
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if text.isascii() and words and len(words) <= _LONGEST_NAME:
        return words
    return _with_digest(words, text)


def link_names(texts: Iterable[str]) -> dict[str, str]:
    """Return a name of its own for each text: those whose names would be the same get their digests behind them."""
    different = dict.fromkeys(texts)
    times = Counter(map(link_name, different))
    return {text: name if times[name := link_name(text)] == 1 else _with_digest(name, text) for text in different}


def _with_digest(words: str, text: str) -> str:
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
    return f"{words[: _LONGEST_NAME - 9]}-{digest}".lstrip("-")


@dataclass(frozen=True)
class Paragraph:
    """Plain sentences."""

    text: str


@dataclass(frozen=True)
class Listing:
    """Lines to type or to read as they are, such as commands."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    numeric: bool = False
    """Whether its values are numbers: aligned to the right, and sorted as numbers."""
    note: str = ""
    """What the title does not say, such as the unit."""


@dataclass(frozen=True)
class Cell:
    """A value of a table: as it is shown, and as it sorts."""

    text: str
    value: float | None = None
    """The number behind the text; None for text, and for a number that is unknown."""
    strong: bool = False
    """Set in bold: only where the statistics allow the claim."""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under columns."""

    name: str
    """Names it in files and links, such as ``scores``."""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str

    @property
    def notes(self) -> str:
        """The notes of its columns, for writers that have no room for them in its head; empty if there are none."""
        return "; ".join(f"{column.title}: {column.note}" for column in self.columns if column.note)


@dataclass(frozen=True)
class Figure:
    """A picture, which `peftlab.report.figures` draws from its data."""

    name: str
    """Names the file, such as ``ner-learning-curves``."""
    kind: str
    """The module of `peftlab.report.figures` that draws it."""
    data: Mapping[str, Any]
    """JSON values; all that the picture shows."""
    caption: str


@dataclass(frozen=True)
class Finding:
    """Something that the reader must know before believing a number."""

    check: str
    """The check that found it, such as ``one_seed``."""
    level: Level
    text: str
    """What, where, and what it means for the claim."""
    places: tuple[str, ...] = ()
    """The runs that it is about."""


@dataclass(frozen=True)
class Findings:
    """A list of findings."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Item:
    """An item of a checklist."""

    question: str
    answer: Literal["yes", "no", "partly", "unknown", "not applicable"]
    evidence: str


@dataclass(frozen=True)
class Checklist:
    """Items of a published checklist, answered from the records."""

    source: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Highlight:
    """A word, and how strongly it is coloured."""

    text: str
    strength: float
    """From -1, against, to 1, for; 0: not coloured."""
    note: str
    """What a reader who points at it is told, such as its value."""


@dataclass(frozen=True)
class Highlighted:
    """A text whose words are coloured."""

    words: tuple[Highlight, ...]
    caption: str
    """What the colours mean."""


Block = Paragraph | Listing | Table | Figure | Findings | Checklist | Highlighted


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    name: str
    """Names it in links."""
    title: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """Every number of the report, as JSON values: the content of ``report.json``."""
