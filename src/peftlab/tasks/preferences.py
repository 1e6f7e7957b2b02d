"""A prompt with two answers, of which one is preferred."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from peftlab.errors import DataError
from peftlab.generation.conversations import Conversation, Message, check_turns

Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """A conversation that two answers continue."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    prompt: Messages
    """The turns before the answers; the last one is the user's."""
    chosen: Messages | None
    """The preferred answer: one turn of the assistant or more, with what a user says between them. None: neither answer
    is given, and one is to be written."""
    rejected: Messages | None
    file: str = ""
    line: int | None = None
    """Its line or row in `file`, from 1."""
    group: str | None = None
    """The group it belongs to: pairs of one group are held out together."""

    @property
    def place(self) -> str:
        """The file and, if known, the line, for messages."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    @property
    def answers(self) -> tuple[Messages, ...]:
        """The chosen and the rejected answer, if they are given."""
        return () if self.chosen is None or self.rejected is None else (self.chosen, self.rejected)

    def with_answer(self, answer: Messages) -> Conversation:
        """Return the conversation that ends with `answer`."""
        return Conversation(self.id, (*self.prompt, *answer), self.file, self.line, self.group)

    def mapped(self, change: Callable[[str], str]) -> Preference:
        """Return the example with `change`, which maps characters one to one, applied to all its texts."""

        def of(messages: Messages | None) -> Messages | None:
            return messages and tuple(one._replace(content=change(one.content)) for one in messages)

        group = self.group and change(self.group)
        return replace(
            self, prompt=of(self.prompt) or (), chosen=of(self.chosen), rejected=of(self.rejected), group=group
        )


def checked(example: Preference) -> Preference:
    """Return the example if its turns are in order: each answer begins and ends with the assistant's.

    Raises:
        DataError: they are not, or an answer is blank.
    """
    check_turns(list(example.prompt), example.place)
    if example.prompt[-1].role != "user":
        raise DataError(f"{example.place or example.id}: the prompt ends with no turn of the user, which is answered")
    for answer in example.answers:
        check_turns([*example.prompt, *answer], example.place)
        if not answer or answer[-1].role != "assistant":
            raise DataError(f"{example.place or example.id}: an answer ends with no turn of the assistant")
    return example


def messages_of(value: Any, role: str, what: str) -> Messages:
    """Return the messages of a value as JSON has it: a text is one message of `role`, a list has several.

    Raises:
        DataError: it is neither; the message begins with `what` it is.
    """
    if isinstance(value, str):
        return (Message(role, value),)
    listed = value if isinstance(value, list) and value else [None]
    parts = [[one.get(key) for key in Message._fields] if isinstance(one, Mapping) else [None] for one in listed]
    if not all(isinstance(text, str) for one in parts for text in one):
        raise DataError(
            f'{what}: expected a text, or a list of messages such as {{"role": "{role}", "content": ...}}, not '
            f"{str(value)[:80]!r}"
        )
    return tuple(Message(*one) for one in parts)


def text_of(messages: Messages) -> str:
    """Return the contents of messages as one text, for a reader and for comparisons."""
    return "\n\n".join(one.content for one in messages)


def after(prompt: Messages, conversation: Messages) -> Messages:
    """Return what goes on after `prompt` in a conversation that may begin with it."""
    return conversation[len(prompt) :] if conversation[: len(prompt)] == prompt else conversation


def shared(one: Messages, other: Messages) -> Messages:
    """Return the messages that both conversations begin with."""
    pairs = zip(one, other, strict=False)
    return one[: next((n for n, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))]
