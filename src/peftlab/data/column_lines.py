"""The lines of column files (CoNLL): their fields, and which of them end a sentence or a document."""

from __future__ import annotations

import re

# str.split() also splits at no-break and other Unicode spaces, which occur inside words
_FIELDS = re.compile(r"[^ \t]+")

_DOCUMENT = re.compile(r"""[ \t"']*(?:[-\u2013\u2014]+[ ]?DOCSTART|DOCSTART(?:[ \t]|$))""", re.IGNORECASE)
"""Start of a line between two documents, in its known spellings."""


def fields_of(line: str, separator: str | None = None) -> list[str]:
    """Return the columns of a line; without a separator, those between spaces and tabs."""
    return _FIELDS.findall(line) if separator is None else line.split(separator)


def places_of(line: str) -> list[tuple[int, int]]:
    """Return where each column of a line begins and ends, of those between spaces and tabs."""
    return [field.span() for field in _FIELDS.finditer(line)]


def ends_sentence(line: str) -> bool:
    """Return whether a line stands between two sentences: a blank one, or one between two documents."""
    return not line.strip(" \t") or begins_document(line)


def begins_document(line: str) -> bool:
    """Return whether a line stands between two documents."""
    return _DOCUMENT.match(line) is not None
