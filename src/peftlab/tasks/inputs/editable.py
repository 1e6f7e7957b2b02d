"""Texts as words that may be edited, and the spans of words that an edit must keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from peftlab.tasks.inputs.splitting import words_of


class Span(NamedTuple):
    """A span of words that belongs to the gold of its example."""

    start: int
    """Position of the first word."""
    end: int
    """Position after the last word."""
    label: str | None = None
    """The type of a mention, which another mention of the type may replace; None: no edit may change these words, such
    as an answer or a marker."""


@dataclass(frozen=True, slots=True)
class EditableText:
    """A text as words with the white space before them, and the spans that its gold refers to."""

    words: tuple[str, ...]
    spaces: tuple[str, ...]
    """The white space before each word, and after the last one; one more than `words`."""
    spans: tuple[Span, ...] = ()
    """Disjoint, in order."""
    about: str | None = None
    """The gold of the text as a whole beside its spans, such as an intent: only a text of the same may take its place.
    None: it has none."""

    @classmethod
    def of_words(cls, words: Sequence[str], spans: Sequence[Span] = (), about: str | None = None) -> Self:
        """Return a text of these words, one space apart."""
        spaces = ("", *[" "] * (len(words) - 1), "") if words else ("",)
        return cls(tuple(words), spaces, tuple(spans), about)

    @classmethod
    def of_text(cls, text: str, protected: Sequence[tuple[int, int]] = ()) -> Self:
        """Return `text` split by `words_of`; each of the `protected` slices becomes one word that no edit changes.

        Args:
            text: the text.
            protected: start and end of each slice in characters, disjoint and in order; none is empty.
        """
        places: list[tuple[int, int]] = []
        spans: list[Span] = []
        done = 0
        for start, end in (*protected, (len(text), len(text))):
            places += [(done + first, done + last) for first, last in words_of(text[done:start])]
            if end > start:
                spans.append(Span(len(places), len(places) + 1))
                places.append((start, end))
            done = end
        starts = [start for start, _ in places] + [len(text)]
        ends = [0] + [end for _, end in places]
        spaces = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        return cls(tuple(text[start:end] for start, end in places), tuple(spaces), tuple(spans))

    @property
    def text(self) -> str:
        """Return the text with its white space."""
        return "".join(part for pair in zip(self.spaces, (*self.words, ""), strict=True) for part in pair)

    @property
    def free(self) -> list[int]:
        """Return the positions of the words outside all spans."""
        taken = {position for span in self.spans for position in range(span.start, span.end)}
        return [position for position in range(len(self.words)) if position not in taken]

    @property
    def mentions(self) -> list[Span]:
        """Return the spans that have a label."""
        return [span for span in self.spans if span.label is not None]

    def offset(self, position: int) -> int:
        """Return the place in `text`, in characters, at which the word at `position` begins."""
        return sum(map(len, self.spaces[: position + 1])) + sum(map(len, self.words[:position]))

    def replaced(self, changes: Mapping[int, Sequence[str]]) -> EditableText:
        """Return the text with other words in place of some; spans move with their words.

        Args:
            changes: by position, the words that replace the one there: none deletes it.

        Raises:
            ValueError: a protected word would change, or a span would lose all its words.
        """
        words: list[str] = []
        spaces: list[str] = []
        starts: list[int] = []
        gap = " " if any(self.spaces[1:-1]) else ""  # Chinese and Japanese text has no spaces
        left = ""  # the space of a deleted word
        for position, (word, space) in enumerate(zip(self.words, self.spaces, strict=False)):
            starts.append(len(words))
            new = changes.get(position, (word,))
            if not new:
                left = left or space
                continue
            joins = bool(words) and not space and new[0][:1].isalnum()  # without a space, it would join the word before
            spaces += [left if joins else space, *[gap] * (len(new) - 1)]
            words += new
            left = ""
        if words:
            spaces[0] = self.spaces[0]
        starts.append(len(words))
        spans = tuple(Span(starts[span.start], starts[span.end], span.label) for span in self.spans)
        for before, after in zip(self.spans, spans, strict=True):
            kept = tuple(words[after.start : after.end])
            if not kept or (before.label is None and kept != self.words[before.start : before.end]):
                raise ValueError(f"the span {before} of {self.text!r} may not become {kept}")
        return EditableText(tuple(words), (*spaces, self.spaces[-1]), spans, self.about)
