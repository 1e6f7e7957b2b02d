"""Where the sentences of a plain text are, by rule."""

from __future__ import annotations

import re

_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*(?=\s)|[\r\n]+")
_NEXT = re.compile(r"\s*[\"'\u201c\u2018(\[]*[A-Z0-9]")
_SHORT = frozenset(
    (
        *("e.g", "i.e", "vs", "etc", "al", "dr", "mr", "mrs", "ms", "prof", "fig", "figs", "ref", "refs", "approx"),
        *("ca", "cf", "resp", "st", "inc", "ltd", "jr", "sr", "vol", "pp", "eq"),
    )
)
"""Words that a period shortens, without it."""
_LAST_WORD = re.compile(r"[\w.]+$")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each sentence of `text`, without the white space around it.

    A sentence ends at the end of a line, and at a period, a question or an exclamation mark before white space and a
    capital or a digit, unless the period belongs to an abbreviation (*e.g.*, *Fig.*) or a single letter (*J. Smith*).
    """
    spans, start = [], 0
    for match in _END.finditer(text):
        if match[0][0] in ".!?" and not _ends(text, match):
            continue
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, len(text)))
    return [stripped for span in spans if (stripped := _stripped(text, *span)) is not None]


def _ends(text: str, match: re.Match[str]) -> bool:
    if _NEXT.match(text, match.end()) is None:
        return False
    word = _LAST_WORD.search(text, max(match.start() - 40, 0), match.start())
    shortened = match[0] == "." and word is not None
    return not (shortened and word and (word[0].lower() in _SHORT or (len(word[0]) == 1 and word[0].isalpha())))


def _stripped(text: str, start: int, end: int) -> tuple[int, int] | None:
    piece = text[start:end]
    first, last = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
    return (first, last) if first < last else None
