"""Conversations, the examples of tasks that write: turns of a system, a user and an assistant, or one plain text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from peftlab.errors import DataError
from peftlab.personal_data.masked import Mask
from peftlab.reading.placed import Placed

ROLES = ("system", "user", "assistant")
"""The roles of a conversation's turns."""
TEXT = "text"
"""The role of a plain text, which is the only turn of its conversation and has no template."""

BEGINNING = "beginning"
"""The role of a plain text that the model continues, likewise."""


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    """One of `ROLES`, `TEXT` or `BEGINNING`."""
    content: str


@dataclass(frozen=True, slots=True)
class Conversation(Placed):
    """A conversation, as read from its file, or without the last answer.

    A prompt and its answer are a conversation of two turns.
    """

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    messages: tuple[Message, ...]
    """One or more."""
    file: str = ""
    line: int | None = None
    """The line of the conversation in `file`, from 1."""
    group: str | None = None
    """The group it belongs to, such as a document or an author."""

    @property
    def is_text(self) -> bool:
        """Whether it is a plain text, to be learnt as a whole."""
        return self.messages[0].role == TEXT

    @property
    def answer(self) -> str | None:
        """The content of the last turn, if it is the assistant's; None: there is no answer yet, or it is a text."""
        role, content = self.messages[-1]
        return content if role == "assistant" else None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the last answer; of a plain text, the text."""
        return self.messages if self.answer is None else self.messages[:-1]

    def mapped(self, change: Callable[[str], str]) -> Conversation:
        """Return the conversation with `change`, which maps characters one to one, applied to all its texts."""
        messages = tuple(Message(role, change(content)) for role, content in self.messages)
        return replace(self, messages=messages, group=None if self.group is None else change(self.group))

    def masked(self, mask: Mask) -> Conversation:
        """Return the conversation with every turn masked."""
        return replace(self, messages=tuple(Message(role, mask(content).text) for role, content in self.messages))


def messages_of(listed: Any, place: str = "") -> tuple[Message, ...]:
    """Return turns from a list of objects with ``role`` and ``content``.

    After a system turn that may come first, a user and an assistant take turns, and the user begins. A single turn may
    have the role ``text``.

    Args:
        listed: the list, as JSON has it.
        place: where it stands, for messages.

    Raises:
        DataError: it is no such list; the message names the turn.
    """
    where = f"{place}: " if place else ""
    if not isinstance(listed, list | tuple) or not listed:
        raise DataError(f'{where}expected a list of turns, [{{"role": ..., "content": ...}}, ...]')
    messages = []
    for number, turn in enumerate(listed):
        content = turn.get("content") if isinstance(turn, Mapping) else None
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if not isinstance(content, str) or not isinstance(role, str):
            raise DataError(f"{where}turn {number}: expected an object with `role` and `content`, both texts")
        messages.append(Message(role, content))
    check_turns(messages, place)
    return tuple(messages)


def refuse_system(fields: Mapping[str, Any]) -> None:
    """Check that an object to be answered has no ``system`` that nothing reads.

    Raises:
        DataError: it has one.
    """
    if fields.get("system") is not None:
        raise DataError(
            "`system` is not read here: leave it out, or give `messages`, whose first turn it is. Data name their "
            "column of it by data.format.rows.system"
        )


def check_turns(messages: list[Message], place: str = "") -> None:
    """Check the roles of turns, and that no answer is blank.

    Raises:
        DataError: see `messages_of`.
    """
    where = f"{place}: " if place else ""
    if [message.role for message in messages] == [TEXT]:
        return
    begin = int(messages[0].role == "system")
    for number, (role, content) in enumerate(messages):
        expected = "system" if number < begin else ROLES[1 + (number - begin) % 2]
        if role != expected:
            raise DataError(
                f"{where}turn {number} has the role '{role[:40]}'; expected '{expected}': after a system turn, which "
                "may be left out, user and assistant take turns. Mend or remove the row."
            )
        if role == "assistant" and not content.strip():
            raise DataError(f"{where}turn {number}: the assistant's answer is blank. Mend or remove the row.")
    if len(messages) == begin:
        raise DataError(f"{where}there is only a system turn. Mend or remove the row.")
