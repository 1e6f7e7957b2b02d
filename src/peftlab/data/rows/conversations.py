"""Rows with a conversation, an instruction and its answer, or a plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from typing_extensions import override

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import OBJECT, Place, RowReader
from peftlab.errors import DataError
from peftlab.generation.conversations import TEXT, Conversation, Message, messages_of


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class ConversationRows(RowReader):
    """How to read conversations: the first of four forms whose column a row has, and not as null.

    They are a list of turns (``messages``, each with ``role`` and ``content``); an instruction with an input and its
    output, as Alpaca has them; a prompt and its answer; or a plain text, all of which is learnt. None stands for a form
    that is not looked for.
    """

    example: ClassVar[type] = Conversation

    messages: str | None = "messages"
    """The column of the turns; the last one is the assistant's."""
    instruction: str | None = "instruction"
    """The column of an instruction."""
    input: str | None = "input"
    """The column of its input, which may be empty or missing."""
    output: str = "output"
    """The column of its answer."""
    prompt: str | None = "prompt"
    """The column of a prompt."""
    answer: str = "answer"
    """The column of its answer."""
    plain: str | None = "text"
    """The column of a plain text."""
    system: str | None = None
    """The column of a system turn before an instruction or a prompt; None: there is none."""
    group: str | None = None
    """The column of the conversation's group, such as its author: groups are held out whole."""

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Conversation:
        """Return the conversation in a row; raises DataError."""
        messages = self._messages(row, place)
        if messages[-1].role == "user":
            raise DataError(f"{place}: the last turn is the user's, and there is nothing to learn. Remove the row.")
        group = None if self.group is None else cells.name(row, self.group, "group", place)
        return Conversation(id, messages, place.file, place.line, group)

    def _messages(self, row: Mapping[str, Any], place: Place) -> tuple[Message, ...]:
        if column := self._filled(row, "messages", place):
            return messages_of(cells.value(row, column, "messages", place), f"{place}: '{column}'")
        if question := self._question(row, place):
            turns, answer = question
            return (*turns, Message("assistant", cells.text(row, getattr(self, answer), answer, place)))
        if column := self._filled(row, "plain", place):
            return (Message(TEXT, cells.text(row, column, "plain", place)),)
        sought = {name: getattr(self, name) for name in ("messages", "instruction", "prompt", "plain")}
        raise DataError(
            f"{place}: there is no conversation: expected a value in one of the columns "
            f"{', '.join(column for column in sought.values() if column)}; it has "
            f"{', '.join(map(str, row))[:200]}. Set "
            f"data.format.rows.{', .'.join(sought)} to the name of one."
        )

    @override
    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an object with ``messages`` where it has turns, an instruction or a prompt; it needs no answer."""
        if column := self._filled(fields, "messages", OBJECT):
            return {**fields, "messages": cells.value(fields, column, "messages", OBJECT)}
        if question := self._question(fields, OBJECT):
            others = {key: value for key, value in fields.items() if key != self.system}
            return {**others, "messages": [message._asdict() for message in question[0]]}
        return fields

    def _question(self, row: Mapping[str, Any], place: Place) -> tuple[tuple[Message, ...], str] | None:
        """Return the turns before an answer, and the setting that names its column; None: the row has another form."""
        if column := self._filled(row, "instruction", place):
            prompt, answer = cells.text(row, column, "instruction", place), "output"
            if (column := self._filled(row, "input", place)) and (more := cells.string(row, column, "input", place)):
                prompt = f"{prompt}\n\n{more}"
        elif column := self._filled(row, "prompt", place):
            prompt, answer = cells.text(row, column, "prompt", place), "answer"
        else:
            return None
        system = () if self.system is None else (Message("system", cells.text(row, self.system, "system", place)),)
        return (*system, Message("user", prompt)), answer

    def _filled(self, row: Mapping[str, Any], setting: str, place: Place) -> str | None:
        """Return the column that `setting` names; None where it names none, or `row` has nothing in it."""
        column: str | None = getattr(self, setting)
        if column is None or row.get(column) is None is row.get(column.partition(".")[0]):
            return None
        return None if cells.value(row, column, setting, place) is None else column
