"""Rows with a question, its choices, and which of them is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.errors import DataError
from peftlab.scores.choice_scores import MOST
from peftlab.tasks.inputs.choices import Choices

AnswerIs = Literal["index", "number", "letter", "text"]


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class ChoiceRows(RowReader):
    """How to read questions with several choices."""

    example: ClassVar[type] = Choices

    choices: str | list[str] = "choices"
    """The column with the list of choices; or several columns with a choice each, of which the last may be empty."""
    answer: str = "answer"
    """The column with the right choice."""
    answer_is: AnswerIs = "index"
    """What that column holds: the position of the choice from 0 (index) or from 1 (number), its letter from A, or its
    text."""
    question: str | None = "question"
    """The column of the question; None: there is only a context, which the choices continue."""
    context: str | None = None
    """The column of what is read before the question; None: there is none."""
    group: str | None = None
    """The column of the example's group, such as its passage: groups are held out whole."""

    def __post_init__(self) -> None:
        """Check that there is something that the choices belong to."""
        if self.question is None and self.context is None:
            raise ValueError("name the column of the question, of the context, or both")

    @property
    def columns(self) -> dict[str, str]:
        """The name of each column that is read, by the setting that names it."""
        listed = [self.choices] if isinstance(self.choices, str) else self.choices
        settings = {f"choices[{n}]" if n else "choices": column for n, column in enumerate(listed)}
        others = {name: getattr(self, name) for name in ("answer", "question", "context", "group")}
        return settings | {name: column for name, column in others.items() if column is not None}

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Choices:
        """Return the question in a row; raises DataError."""
        choices = self._choices(row, place)
        context, question, group = (
            None if column is None else read(row, column, setting, place)
            for column, setting, read in (
                (self.context, "context", cells.text),
                (self.question, "question", cells.text),
                (self.group, "group", cells.name),
            )
        )
        answer = self._answer(row, choices, place)
        return Choices(id, tuple(choices), answer, context, question, place.file, place.line, group)

    def _choices(self, row: Mapping[str, Any], place: Place) -> list[str]:
        if isinstance(self.choices, str):
            choices, named = cells.texts(row, self.choices, "choices", place), f"'{self.choices}' has"
        else:
            values = [cells.value(row, column, "choices", place) for column in self.choices]
            while values and values[-1] in (None, ""):
                values.pop()
            columns = self.choices[: len(values)]
            choices = [cells.text(row, column, "choices", place) for column in columns]
            named = f"the columns {', '.join(self.choices)} have"
        if not 2 <= len(choices) <= MOST:
            raise DataError(f"{place}: {named} {len(choices)} choices; expected 2 to {MOST}. Mend or remove the row.")
        return choices

    def _answer(self, row: Mapping[str, Any], choices: list[str], place: Place) -> int:
        """Return the position of the right choice, from 0."""
        if self.answer_is in ("index", "number"):
            first = int(self.answer_is == "number")
            position = self._whole_number(row, place) - first
            expected = f"a whole number from {first} to {len(choices) - 1 + first}"
        elif self.answer_is == "letter":
            written = cells.name(row, self.answer, "answer", place).upper()
            position = ord(written) - ord("A") if len(written) == 1 else -1
            expected = f"a letter from A to {chr(ord('A') + len(choices) - 1)}"
        else:
            written = cells.text(row, self.answer, "answer", place)
            position = choices.index(written) if choices.count(written) == 1 else -1
            expected = "the text of exactly one of its choices"
        if not 0 <= position < len(choices):
            shown = str(cells.value(row, self.answer, "answer", place))[:80]
            raise DataError(
                f"{place}: '{self.answer}' is {shown!r}; expected {expected}. Mend the row, or set "
                "data.format.rows.answer_is=index, number, letter or text."
            )
        return position

    def _whole_number(self, row: Mapping[str, Any], place: Place) -> int:
        try:
            return cells.integer(row, self.answer, "answer", place)
        except DataError as error:
            if cells.value(row, self.answer, "answer", place) is None:
                raise
            raise DataError(f"{error} Or set data.format.rows.answer_is=letter or text.") from None
