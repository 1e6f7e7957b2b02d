"""Rows with a question about a text, and its answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.errors import DataError
from peftlab.tasks.inputs.questions import Answer, Question, check_answers

_FORM = 'Expected [{"text": ..., "answer_start": ...}, ...], or {"text": [...], "answer_start": [...]}; [] where none.'


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class QuestionRows(RowReader):
    """How to read questions about texts.

    Answers are a list of objects with ``text`` and ``answer_start``, or an object with a list of each, as SQuAD has
    them on the hub; empty where the text has none. ``answer_start`` counts characters from 0; it may be left out, or
    null, where the text holds the answer just once.
    """

    example: ClassVar[type] = Question

    question: str = "question"
    """The column of the question."""
    context: str = "context"
    """The column of the text."""
    answers: str = "answers"
    """The column of the answers."""
    source_id: str | None = None
    """The column of an id, which stands beside each prediction."""
    group: str | None = "context"
    """The column of the question's group, such as its text or its document: groups are held out whole."""

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Question:
        """Return the question in a row; raises DataError."""
        context = cells.text(row, self.context, "context", place)
        group = None if self.group is None else cells.name(row, self.group, "group", place)
        if self.group == self.context:
            group = hashlib.sha256(context.encode("utf-8", "replace")).hexdigest()[:16]
        one = Question(
            id,
            cells.text(row, self.question, "question", place),
            context,
            tuple(self._answers(row, context, place)),
            str(place),
            group,
            None if self.source_id is None else cells.name(row, self.source_id, "source_id", place),
        )
        check_answers(one)
        return one

    def _answers(self, row: Mapping[str, Any], context: str, place: Place) -> Iterator[Answer]:
        listed = cells.value(row, self.answers, "answers", place)
        if isinstance(listed, Mapping):
            listed = list(_transposed(listed, f"{place}: '{self.answers}'"))
        if not isinstance(listed, list):
            raise DataError(f"{place}: '{self.answers}' is {_shown(listed)}. {_FORM}")
        for n, answer in enumerate(listed):
            where = f"{place}: '{self.answers}[{n}]'"
            if not isinstance(answer, Mapping) or not isinstance(answer.get("text"), str):
                raise DataError(f"{where} is {_shown(answer)}. {_FORM}")
            text, start = answer["text"], answer.get("answer_start")
            yield Answer(text, _only_place(text, context, where) if start is None else _whole(start, where))


def _transposed(columns: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yield the answers of an object that has a list of texts and one of their starts."""
    texts = columns.get("text")
    starts = columns.get("answer_start")
    if starts is None and isinstance(texts, list):
        starts = [None] * len(texts)
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise DataError(f"{where} is {_shown(dict(columns))}. {_FORM}")
    for text, start in zip(texts, starts, strict=True):
        yield {"text": text, "answer_start": start}


def _whole(start: Any, where: str) -> int:
    if isinstance(start, bool) or not isinstance(start, int):
        raise DataError(f"{where}: answer_start is {_shown(start)}, expected a whole number.")
    return start


def _only_place(text: str, context: str, where: str) -> int:
    """Return where the text holds an answer.

    Raises:
        DataError: it does not, or more than once.
    """
    start = context.find(text) if text.strip() else -1
    if start < 0:
        raise DataError(f"{where}: the text does not hold the answer {_shown(text)}. Mend it, or leave it out.")
    if context.find(text, start + 1) >= 0:
        raise DataError(
            f"{where}: the text holds the answer {_shown(text)} more than once: say which, with answer_start, the "
            f"character at which it begins; the first is {start}."
        )
    return start


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}..."
