"""Questions about texts, and their tokenisation into windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from peftlab.errors import DataError
from peftlab.personal_data.masked import Mask
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.task import IGNORED, Encoded, check_size

NO_TEXT = -1
"""The place in the text of a token that does not belong to it."""

_AT_ONCE = 256
"""Questions that are tokenised at once: the library returns the place of each token as a Python object."""


class Answer(NamedTuple):
    """An answer that is a piece of the text."""

    text: str
    start: int
    """The character of the text at which it begins, from 0."""

    @property
    def end(self) -> int:
        """The character after its last one."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a text, as read from its file, or without gold."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    question: str
    context: str
    """The text."""
    answers: tuple[Answer, ...] | None = None
    """The answers that are right, of which the first is learnt; empty: the text has none. None without gold."""
    place: str = ""
    """The file and the place in it, for messages."""
    group: str | None = None
    """The group it belongs to, such as its text or its document."""
    source_id: str | None = None
    """Its id in the file it comes from."""

    def mapped(self, change: Callable[[str], str]) -> Question:
        """Return the question with `change`, which maps characters one to one, applied to all its texts."""
        answers = self.answers
        if answers is not None:
            answers = tuple(Answer(change(answer.text), answer.start) for answer in answers)
        question, context = change(self.question), change(self.context)
        group, source_id = (None if part is None else change(part) for part in (self.group, self.source_id))
        return replace(self, question=question, context=context, answers=answers, group=group, source_id=source_id)

    def masked(self, mask: Mask) -> Question:
        """Return the question with all its texts masked, and its answers where they have moved to.

        An answer that is part of personal data becomes all that stands in its place.
        """
        masked, answers = mask(self.context), self.answers
        if answers is not None:
            moved = (masked.moved(answer.start, answer.end) for answer in answers)
            answers = tuple(Answer(masked.text[start:end], start) for start, end in moved)
        return replace(self, question=mask(self.question).text, context=masked.text, answers=answers)


def check_answers(one: Question) -> None:
    """Check that each answer is the piece of the text that stands at its start.

    Raises:
        DataError: it is empty, or stands elsewhere or nowhere; the message says where, if it does.
    """
    for answer in one.answers or ():
        if not answer.text.strip():
            raise DataError(f"{one.place}: an answer is empty. Leave it out: a question without answers has none.")
        if answer.start >= 0 and one.context.startswith(answer.text, answer.start):
            continue
        elsewhere = one.context.find(answer.text)
        if elsewhere < 0:
            hint = "The text holds no such piece."
        else:
            hint = f"It first stands at {elsewhere}; places are counted in characters, from 0."
        raise DataError(f"{one.place}: the answer {answer.text[:60]!r} does not begin at {answer.start}. {hint}")


class _Row(NamedTuple):
    """A question and its whole text as one row, however long."""

    ids: np.ndarray
    types: np.ndarray
    characters: np.ndarray
    """The start and end in the text of each token, shape (tokens, 2); `NO_TEXT` twice for the others."""
    begin: int
    """Position of the first token of the text."""
    end: int
    """Position after its last one."""


def encode_questions(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    stride: int,
    long: Literal["split", "truncate"],
) -> Encoded:
    """Tokenise each question with its text; a text that is too long for one row is read through several windows.

    Every row holds the whole question, and as much of the text as has room. Neighbouring windows share `stride` tokens
    of the text, or half a window if that is less, so that an answer at the border of one lies within the other.

    Args:
        questions: the questions.
        tokenizer: the tokenizer of the model.
        max_tokens: maximum number of tokens in a row.
        stride: tokens of the text that a window shares with the one before it.
        long: whether a long text has several windows, or only the first.

    Returns:
        arrays ``tokens`` and ``types`` of shape (all tokens,): the ids, and which text each is of, empty if the model
        does not use it; ``characters`` of shape (all tokens, 2): where in the text each token begins and ends, twice
        `NO_TEXT` for the tokens of the question and the special ones; ``rows`` of shape (windows + 1,): where each
        window starts in them; ``null`` of shape (windows,): the position of the token that stands for no answer;
        ``examples`` of shape (questions + 1,): where each question starts among the windows; ``truncated`` and
        ``empty`` of shape (questions,): the number of tokens that each text loses, and whether it has none.

    Raises:
        DataError: a question leaves no room for its text; a text is longer than `LONGEST_TEXT`.
    """
    parts: dict[str, list[np.ndarray]] = {"tokens": [], "types": [], "characters": []}
    rows, null, examples = [0], [], [0]
    lengths, truncated, empty = (np.zeros(len(questions), dtype=np.int64) for _ in range(3))
    has_types = "token_type_ids" in tokenizer("a", "a")
    for n, row in enumerate(_whole_rows(questions, tokenizer)):
        size = row.end - row.begin
        room = max_tokens - (len(row.ids) - size)
        if room < min(size, 1):
            place = questions[n].place or questions[n].id
            raise DataError(
                f"{place}: the question takes {len(row.ids) - size} tokens, special ones included, and leaves none of "
                f"data.max_tokens={max_tokens} to the text. Shorten it, or set data.max_tokens to more"
            )
        windows = list(_windows(size, room, stride))
        if long == "truncate":
            windows, truncated[n] = windows[:1], max(size - room, 0)
        for begin, end in windows:
            own = np.r_[: row.begin, row.begin + begin : row.begin + end, row.end : len(row.ids)]
            parts["tokens"].append(row.ids[own])
            parts["types"].append(row.types[own] if has_types else row.types[:0])
            parts["characters"].append(row.characters[own])
            null.append(_null(row.ids[own], tokenizer))
            rows.append(rows[-1] + len(own))
            lengths[n] = max(lengths[n], len(own))
        examples.append(len(rows) - 1)
        empty[n] = size == 0
    joined = {
        "tokens": np.concatenate([np.zeros(0, np.int32), *parts["tokens"]]),
        "types": np.concatenate([np.zeros(0, np.int8), *parts["types"]]),
        "characters": np.concatenate([np.zeros((0, 2), np.int32), *parts["characters"]]),
    }
    arrays = {
        **joined,
        "rows": np.asarray(rows, dtype=np.int64),
        "null": np.asarray(null, dtype=np.int32),
        "examples": np.asarray(examples, dtype=np.int64),
        "truncated": truncated,
        "empty": empty,
    }
    counts = {"windows": len(null), "truncated_texts": int((truncated > 0).sum())}
    counts["truncated_tokens"] = int(truncated.sum())
    return Encoded(arrays, lengths, tokenizer.pad_token_id or 0, counts)


def _whole_rows(questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase) -> Iterator[_Row]:
    for start in range(0, len(questions), _AT_ONCE):
        some = questions[start : start + _AT_ONCE]
        for one in some:
            check_size(len(one.question) + len(one.context), one.place or one.id)
        encoding: Any = tokenizer([one.question for one in some], [one.context for one in some], verbose=False)
        for whole in encoding.encodings:
            of_text = np.asarray([text == 1 for text in whole.sequence_ids])
            characters = np.asarray(whole.offsets, dtype=np.int32).reshape(-1, 2)
            characters[~of_text] = NO_TEXT
            own = np.flatnonzero(of_text)
            begin, end = (int(own[0]), int(own[-1]) + 1) if len(own) else (len(of_text), len(of_text))
            yield _Row(np.asarray(whole.ids, np.int32), np.asarray(whole.type_ids, np.int8), characters, begin, end)


def _windows(size: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield the first token of each window in a text of `size` tokens, and the one after its last; at least one."""
    step = room - min(stride, room // 2)
    for begin in itertools.count(0, step):
        yield begin, min(begin + room, size)
        if begin + room >= size:
            return


def _null(ids: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the position in a row of the token that stands for no answer: the classification token, wherever the
    architecture has it, else the one that begins the row.
    """
    own = tokenizer.cls_token_id
    return int(np.argmax(ids == own)) if own is not None and own in ids else 0


def token_bounds(one: Question, encoded: Encoded, index: int, no_answer: bool) -> np.ndarray:
    """Return the first and the last token of the answer in each window of a question, shape (windows, 2).

    They are those that share a character with the first gold answer. Where it is not wholly in a window, they are the
    token that stands for no answer, or `IGNORED`.

    Args:
        one: the question.
        encoded: its split, as `encode_questions` returns it.
        index: its position in the split.
        no_answer: whether a window may have no answer.
    """
    rows, starts = encoded.arrays["rows"], encoded.arrays["examples"]
    windows = range(starts[index], starts[index + 1])
    bounds = np.full((len(windows), 2), IGNORED, dtype=np.int64)
    if one.answers is None:
        return bounds
    if no_answer:
        bounds[:] = encoded.arrays["null"][starts[index] : starts[index + 1], None]
    if not one.answers:
        return bounds
    answer = one.answers[0]
    whole_end = not encoded.arrays["truncated"][index]
    for n, row in enumerate(windows):
        places = encoded.arrays["characters"][rows[row] : rows[row + 1]]
        own = np.flatnonzero(places[:, 0] != NO_TEXT)
        inside = own[(places[own, 0] < answer.end) & (places[own, 1] > answer.start)]
        if not len(inside):
            continue
        begins = n == 0 or places[own[0], 0] <= answer.start
        ends = (whole_end and n == len(windows) - 1) or places[own[-1], 1] >= answer.end
        if begins and ends:
            bounds[n] = inside[0], inside[-1]
    return bounds


def answer_regions(one: Question) -> list[tuple[int, int]]:
    """Return the start and end of each piece of the text that gold answers cover, disjoint and in order."""
    regions: list[tuple[int, int]] = []
    for answer in sorted(one.answers or (), key=lambda answer: answer.start):
        if regions and answer.start <= regions[-1][1]:
            regions[-1] = regions[-1][0], max(regions[-1][1], answer.end)
        else:
            regions.append((answer.start, answer.end))
    return regions


def moved(one: Question, texts: Sequence[EditableText]) -> Question:
    """Return a question with other texts, in which the regions of its answers are kept; the answers move with them."""
    question, context = texts
    regions, begins = answer_regions(one), [context.offset(span.start) for span in context.spans]
    answers = []
    for answer in one.answers or ():
        own = next(n for n, (begin, end) in enumerate(regions) if begin <= answer.start and answer.end <= end)
        answers.append(Answer(answer.text, answer.start - regions[own][0] + begins[own]))
    gold = None if one.answers is None else tuple(answers)
    return replace(one, question=question.text, context=context.text, answers=gold)
