"""Texts in which two entities are marked, and their tokenisation with markers around these."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from transformers import PreTrainedTokenizerBase

from peftlab.errors import ConfigError, DataError
from peftlab.personal_data.masked import Mask
from peftlab.reading.placed import Placed
from peftlab.tasks.inputs.texts import special_tokens
from peftlab.tasks.task import Encoded, check_size

Slice = tuple[int, int]
"""Start and end."""

_MARK = re.compile(r"</?e[12]>")
_TAGS = ("<e1>", "</e1>", "<e2>", "</e2>")

_RARE = "@#$*&^~|<>{}[]/+=%"
"""Characters that may mark entities, those of Zhou & Chen (2022, section 3.1) first."""


@dataclass(frozen=True, slots=True)
class MarkedText(Placed):
    """A text and two entities in it, whose relation is labelled, or a text without gold."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    text: str
    head: Slice
    """The first argument of the relation, e1, in characters of the text; it need not stand before the second."""
    tail: Slice
    """The second argument, e2."""
    label: str | None
    """None without gold."""
    file: str = ""
    line: int | None = None
    """Its line in `file`, from 1."""
    group: str | None = None
    """The group it belongs to, such as a document."""

    @classmethod
    def of_marked(cls, marked: str, id: str, label: str | None, file: str = "", line: int | None = None) -> Self:
        """Return the text of ``... <e1>head</e1> ... <e2>tail</e2> ...`` without the marks.

        Raises:
            ValueError: a mark is missing, repeated or in the wrong order; the message says which.
        """
        places: dict[str, int] = {}
        plain, done = "", 0
        for mark in _MARK.finditer(marked):
            plain += marked[done : mark.start()]
            if mark[0] in places:
                raise ValueError(f"it has {mark[0]} twice")
            places[mark[0]], done = len(plain), mark.end()
        if missing := [tag for tag in _TAGS if tag not in places]:
            raise ValueError(f"it lacks {missing[0]}")
        plain += marked[done:]
        head, tail = (_stripped(plain, places[f"<{e}>"], places[f"</{e}>"]) for e in ("e1", "e2"))
        return cls(id, plain, head, tail, label, file, line).checked()

    def checked(self) -> Self:
        """Return the example.

        Raises:
            ValueError: an entity is empty or not within the text, or both are the same.
        """
        for name, (start, end) in (("head", self.head), ("tail", self.tail)):
            if not (0 <= start < end <= len(self.text) and self.text[start:end].strip()):
                raise ValueError(f"its {name}, characters {start} to {end} of {len(self.text)}, is no part of the text")
        if self.head == self.tail:
            raise ValueError("its head and its tail are the same")
        return self

    @property
    def marked(self) -> str:
        """The text with the marks of `of_marked`."""
        (start, end), (begin, last) = self.head, self.tail
        marks = [(start, 1, -end, "<e1>"), (end, 0, -start, "</e1>")]
        marks += [(begin, 1, -last, "<e2>"), (last, 0, -begin, "</e2>")]
        pieces, done = [], 0
        for place, *_, mark in sorted(marks):
            pieces += [self.text[done:place], mark]
            done = place
        return "".join([*pieces, self.text[done:]])

    def mapped(self, change: Callable[[str], str]) -> MarkedText:
        """Return the example with `change`, which maps characters one to one, applied to all its texts."""
        label, group = (None if part is None else change(part) for part in (self.label, self.group))
        return replace(self, text=change(self.text), label=label, group=group)

    def masked(self, mask: Mask) -> MarkedText:
        """Return the example with its text masked, and its entities where they have moved to.

        Raises:
            DataError: both entities have become the same.
        """
        masked = mask(self.text)
        one = replace(self, text=masked.text, head=masked.moved(*self.head), tail=masked.moved(*self.tail))
        if one.head == one.tail:
            raise DataError("both entities belong to the same personal data, and are one when it is masked. Remove it")
        return one


def _stripped(text: str, start: int, end: int) -> Slice:
    """Return the slice without white space at its ends; one of white space alone stays."""
    entity = text[start:end]
    if not entity.strip():
        return start, end
    return start + len(entity) - len(entity.lstrip()), end - len(entity) + len(entity.rstrip())


def marker_ids(tokenizer: PreTrainedTokenizerBase, markers: Literal["auto"] | Sequence[str]) -> tuple[int, ...]:
    """Return the ids of the tokens before and after the head, and before and after the tail.

    They are tokens that the model knows, since new ones would need trained embeddings.

    Args:
        tokenizer: the model's.
        markers: two tokens, each before and after an entity, or all four; ``auto``: two rare characters that are
            tokens, by default @ and #.

    Raises:
        ConfigError: one is not in the vocabulary, or the entities would be marked alike.
    """
    vocabulary = tokenizer.get_vocab()
    if markers == "auto":
        ids = [vocabulary[form] for form in (_form(mark, vocabulary) for mark in _RARE) if form is not None][:2]
        special = set(tokenizer.all_special_ids)
        ids += [place for place in sorted(vocabulary.values()) if place not in special and place not in ids]
        return ids[0], ids[0], ids[1], ids[1]
    forms = [_form(marker, vocabulary) for marker in markers]
    if None in forms:
        raise ConfigError(
            f"task.markers: '{markers[forms.index(None)]}' is not one token of the model's vocabulary. Choose another, "
            "or set task.markers=auto"
        )
    ids = [vocabulary[form] for form in forms if form is not None]
    before, after = (ids[0], ids[0]), (ids[-1], ids[-1])
    if len(ids) == 4:
        before, after = (ids[0], ids[1]), (ids[2], ids[3])
    if before[0] == after[0]:
        raise ConfigError("task.markers: the tokens before head and tail are the same, which tells them not apart")
    return *before, *after


def _form(mark: str, vocabulary: dict[str, int]) -> str | None:
    """Return `mark` as a token, with or without the sign of a word's start; None: it is not one."""
    return next((form for form in (mark, f"Ġ{mark}", f"▁{mark}") if form in vocabulary), None)


def encode_marked(
    texts: Sequence[MarkedText],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    markers: Literal["auto"] | Sequence[str],
) -> Encoded:
    """Tokenise the texts and put markers around their entities; the text is tokenised as it is without them.

    A text of more than `max_tokens` tokens keeps its entities, what stands between them, and as much as fits on both
    sides. If that is too much, the tokens farthest from both entities are left out between them; of entities too long
    for a row, their ends.

    Returns:
        the arrays of `peftlab.tasks.inputs.texts.encode_texts`, ``types`` being empty, and ``entities`` of shape
        (texts, 2, 2): start and end of head and tail in tokens of the row, markers included. ``cut_between`` of shape
        (texts,) says whether tokens between the entities, or of them, are left out; it is counted too.

    Raises:
        DataError: `max_tokens` has no room for entities besides special tokens and markers; a text is longer than
            `LONGEST_TEXT`.
    """
    before, after = special_tokens(tokenizer)
    ids = marker_ids(tokenizer, markers)
    room = max_tokens - len(before) - len(after) - len(ids)
    if room < 2:
        taken = len(before) + len(after) + len(ids)
        raise DataError(
            f"data.max_tokens={max_tokens} leaves no room besides {taken} special tokens and markers; set at least "
            f"{taken + 2}"
        )
    for text in texts:
        check_size(len(text.text), text.place or text.id)
    encoding: Any = {"input_ids": [], "offset_mapping": []}
    if texts:
        encoding = tokenizer(
            [text.text for text in texts], add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
    rows: list[list[int]] = []
    entities = np.zeros((len(texts), 2, 2), dtype=np.int32)
    lost = {name: np.zeros(len(texts), dtype=np.int64) for name in ("truncated", "empty", "cut_between")}
    for number, text in enumerate(texts):
        tokens, offsets = encoding["input_ids"][number], encoding["offset_mapping"][number]
        spans = [_tokens_of(entity, offsets) for entity in (text.head, text.tail)]
        kept, lost["cut_between"][number] = _kept(spans, len(tokens), room)
        lost["truncated"][number] = len(tokens) - len(kept)
        lost["empty"][number] = any(start == end for start, end in spans)
        spans = [(int(np.searchsorted(kept, start)), int(np.searchsorted(kept, end))) for start, end in spans]
        row, places = _with_markers([tokens[place] for place in kept], spans, ids)
        rows.append([*before, *row, *after])
        entities[number] = np.asarray(places) + len(before)
    lengths = np.asarray([len(row) for row in rows], dtype=np.int64)
    arrays: dict[str, np.ndarray] = {
        "tokens": np.asarray([token for row in rows for token in row], dtype=np.int32),
        "types": np.zeros(0, dtype=np.int8),
        "examples": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "entities": entities,
        **lost,
    }
    counts = {
        "truncated_texts": int((lost["truncated"] > 0).sum()),
        "truncated_tokens": int(lost["truncated"].sum()),
        "cut_between": int(lost["cut_between"].sum()),
    }
    return Encoded(arrays, lengths, tokenizer.pad_token_id or 0, counts)


def _tokens_of(entity: Slice, offsets: Sequence[Slice]) -> Slice:
    """Return where the tokens that share characters with `entity` start and end; without any, where they would be."""
    start, end = entity
    inside = [place for place, (first, last) in enumerate(offsets) if first < end and last > start and first < last]
    if inside:
        return inside[0], inside[-1] + 1
    place = next((place for place, (first, _) in enumerate(offsets) if first >= start), len(offsets))
    return place, place


def _kept(spans: Sequence[Slice], count: int, room: int) -> tuple[list[int], bool]:
    """Return which of `count` tokens are kept, in order, and whether some between or of the entities are not."""
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    spare = room - (last - first)
    if count <= room:
        return list(range(count)), False
    if spare >= 0:  # half of it on each side; what a side does not need goes to the other
        left = max(min(first, spare // 2), spare - (count - last))
        return list(range(first - left, min(count, last + spare - left))), False

    def distance(place: int) -> tuple[bool, int]:
        within = [place - start for start, end in spans if start <= place < end]
        apart = min(min(abs(place - start), abs(place - (end - 1))) for start, end in spans)
        return (False, min(within)) if within else (True, apart)

    return sorted(sorted(range(first, last), key=distance)[:room]), True


def _with_markers(tokens: Sequence[int], spans: Sequence[Slice], ids: Sequence[int]) -> tuple[list[int], list[Slice]]:
    """Return `tokens` with markers around both `spans`, and start and end of these, markers included."""
    marks: list[tuple[tuple[int, ...], int, int]] = []  # what ends comes before what begins; the longer span outside
    for number, (start, end) in enumerate(spans):
        closing = (end, 1, -end, number, 1) if start == end else (end, 0, -start, -number, 1)
        marks += [((start, 1, -end, number, 0), ids[2 * number], number), (closing, ids[2 * number + 1], number)]
    row: list[int] = []
    begins, ends, done = [0, 0], [0, 0], 0
    for (place, *_, closes), marker, number in sorted(marks):
        row += tokens[done:place]
        done = place
        if not closes:
            begins[number] = len(row)
        row.append(marker)
        if closes:
            ends[number] = len(row)
    return row + list(tokens[done:]), list(zip(begins, ends, strict=True))
