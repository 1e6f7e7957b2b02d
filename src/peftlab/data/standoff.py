"""Entities that stand off from their text, by the places of its characters, as the tagged words of sentences."""

from __future__ import annotations

import logging
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from peftlab.data.sentence_spans import sentence_spans
from peftlab.errors import DataError
from peftlab.tasks.inputs.splitting import words_of
from peftlab.tasks.inputs.words import Sentence

log = logging.getLogger("peftlab")

Offsets = Literal["characters", "bytes", "utf16", "no_returns"]
"""What offsets count: Unicode characters; bytes of UTF-8; units of UTF-16; characters but for carriage returns."""

_CALLED: dict[Offsets, str] = {
    "characters": "characters",
    "bytes": "bytes of UTF-8",
    "utf16": "units of UTF-16",
    "no_returns": "characters without carriage returns",
}

LOST = ("overlapping", "discontinuous", "across_sentences", "without_word")
"""What is counted of entities that are left out."""


class Mention(NamedTuple):
    """An entity as its file has it."""

    type: str
    pieces: tuple[tuple[int, int], ...]
    """Start and end of its pieces: several, if it is discontinuous."""
    text: str
    """The text that it is said to have."""
    place: str
    """File and line, for messages."""


@dataclass(frozen=True)
class Document:
    """A text and its entities."""

    name: str
    text: str
    mentions: Sequence[Mention]
    file: str
    line: int = 1
    """The line of `file` at which it begins."""


class _Span(NamedTuple):
    type: str
    start: int
    end: int


@dataclass(frozen=True)
class Standoff:
    """How documents become sentences."""

    offsets: Offsets = "characters"
    overlaps: Literal["error", "longest"] = "error"
    sentences: bool = True

    def read(self, split: str, documents: Sequence[Document], counts: Counter[str]) -> list[Sentence]:
        """Return the sentences of documents, with the ids ``split:0``, ``split:1``, ...; the group is the document.

        An entity has whole words: one that begins or ends within a word is widened, which `counts` has as
        ``split_words``. Words and sentences do not depend on the entities, as of a new text none are known.

        Raises:
            DataError: an offset is beyond the text or leads to another text than it says, or entities overlap; the
                message names file and line.
        """
        read: list[Sentence] = []
        for document in documents:
            spans = self._resolved(document, counts)
            counts["entities"] += len(document.mentions)
            bounds = sentence_spans(document.text) if self.sentences else [(0, len(document.text))]
            begins, line, counted = [span.start for span in spans], document.line, 0
            for start, end in bounds:
                own = spans[bisect_left(begins, start) : bisect_left(begins, end)]
                within = [span for span in own if span.end <= end]
                counts["across_sentences"] += len(own) - len(within)
                line, counted = line + document.text.count("\n", counted, start), start
                read.append(_sentence(f"{split}:{len(read)}", document, start, end, line, within, counts))
        if lost := {name.replace("_", " "): counts[name] for name in (*LOST, "split_words") if counts[name]}:
            listed = ", ".join(f"{number:,} {name}" for name, number in lost.items())
            log.warning("the %s split: of %s entities: %s", split, f"{counts['entities']:,}", listed)
        return read

    def _resolved(self, document: Document, counts: Counter[str]) -> list[_Span]:
        """Return the entities in characters, none of which overlaps another, in order."""
        spans: list[tuple[_Span, Mention]] = []
        for mention in document.mentions:
            if len(mention.pieces) > 1:
                self._refuse(mention, "consists of several pieces")
                counts["discontinuous"] += 1
                continue
            start, end = self._place(document.text, mention)
            spans.append((_Span(mention.type, start, end), mention))
        kept: list[_Span] = []
        for span, mention in sorted(spans, key=lambda one: (one[0].start - one[0].end, one[0].start)):
            after = bisect_left(kept, span.start, key=lambda other: other.start)
            if any(span.start < other.end and other.start < span.end for other in kept[max(0, after - 1) : after + 1]):
                self._refuse(mention, "overlaps another entity")
                counts["overlapping"] += 1
            else:
                kept.insert(after, span)
        return kept

    def _refuse(self, mention: Mention, why: str) -> None:
        if self.overlaps == "error":
            raise DataError(
                f"{mention.place}: '{mention.text}' {why}, and a word has one tag. Set data.format.overlaps=longest to "
                "keep the longest of those that overlap, leave the others out, as well as those of several pieces, and "
                "count both"
            )

    def _place(self, text: str, mention: Mention) -> tuple[int, int]:
        """Return the start and end of a mention in characters.

        Raises:
            DataError: its text is not there; says what its offsets count, if that is plain.
        """
        (piece,) = mention.pieces
        own = _in_characters(text, piece, self.offsets)
        if own is not None and (said := _plain(text[slice(*own)])) and said == _plain(mention.text):
            return _stripped(text, *own)
        shown = "beyond the end of the text" if own is None else f"'{_plain(text[slice(*own)])}'"
        others = (kind for kind in _CALLED if kind != self.offsets)
        advice = next(
            (
                f"They count {_CALLED[kind]}: set data.format.offsets={kind}"
                for kind in others
                if (place := _in_characters(text, piece, kind)) and _plain(text[slice(*place)]) == _plain(mention.text)
            ),
            "Mend the offsets or the text",
        )
        raise DataError(
            f"{mention.place}: at {piece[0]} to {piece[1]} there is {shown}, not '{mention.text}', counted in "
            f"{_CALLED[self.offsets]}. {advice}"
        )


def _sentence(
    id: str, document: Document, start: int, end: int, line: int, spans: Sequence[_Span], counts: Counter[str]
) -> Sentence:
    text = document.text[start:end]
    places = words_of(text)
    tags = ["O"] * len(places)
    begins, stops = [begin for begin, _ in places], [stop for _, stop in places]
    for span in spans:
        first, last = span.start - start, span.end - start
        inside = range(bisect_right(stops, first), bisect_left(begins, last))
        if not inside:
            counts["without_word"] += 1
        elif any(tags[n] != "O" for n in inside):  # two entities in one word
            counts["overlapping"] += 1
        else:
            counts["split_words"] += (places[inside[0]][0], places[inside[-1]][1]) != (first, last)
            tags[inside[0] : inside[-1] + 1] = [f"B-{span.type}", *[f"I-{span.type}"] * (len(inside) - 1)]
    words = [text[begin:stop] for begin, stop in places]
    ends = [end.start() for end in re.finditer("\n", text)]
    lines = [line + bisect_left(ends, begin) for begin in begins]
    return Sentence(id, words, tags, document.file, lines, text, places, document.name)


def _in_characters(text: str, piece: tuple[int, int], kind: Offsets) -> tuple[int, int] | None:
    """Return the same place counted in characters; None if it is none of the text, or empty."""
    start, end = piece
    if not 0 <= start < end:
        return None
    if kind == "characters":
        return piece if end <= len(text) else None
    before = _units_before(text, kind)
    first, last = (np.searchsorted(before, piece, "right") - 1).tolist()
    return (first, last) if (before[first], before[last]) == piece else None


@lru_cache(maxsize=4)  # for all entities of a document
def _units_before(text: str, kind: Offsets) -> np.ndarray:
    """Return how many bytes, or whatever offsets count, stand before each character and before the end, in order."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if kind == "no_returns":
        sizes = (codes != ord("\r")).astype(np.int64)
    else:
        limits = (0x80, 0x800, 0x10000) if kind == "bytes" else (0x10000,)
        sizes = 1 + sum((codes >= limit).astype(np.int64) for limit in limits)
    return np.concatenate([[0], np.cumsum(sizes)])


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the place without the white space around it, which may lie between sentences."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _plain(text: str) -> str:
    return " ".join(text.split())


def check_type(name: str, place: str) -> str:
    """Return the type of an entity, which a tag must be able to hold.

    Raises:
        DataError: it is empty or has white space.
    """
    if not name or name.split() != [name]:
        raise DataError(f"{place}: the type '{name}' of an entity must be one word")
    return name


def whole(documents: Iterator[Document] | Sequence[Document], split: str, path: object) -> list[Document]:
    """Return the documents with any text.

    Raises:
        DataError: there is none, or two have one name.
    """
    made = [document for document in documents if document.text.strip()]
    if not made:
        raise DataError(f"{path}: empty split '{split}': there is no document with a text in it")
    for name, number in Counter(document.name for document in made).items():
        if number > 1:
            raise DataError(f"{path}: {number} documents are called '{name}'. Give each a name of its own")
    return made
