"""A prompt with two answers, of which one is preferred."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from peftlab.errors import DataError
from peftlab.generation.conversations import Conversation, Message, check_turns
from peftlab.personal_data.masked import Mask
from peftlab.reading.placed import Placed

Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Preference(Placed):
    """A conversation that either of two answers continues."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    prompt: Messages
    """The turns before the answer."""
    chosen: str | None
    """The preferred answer; None: neither is given, and one is to be written."""
    rejected: str | None
    file: str = ""
    line: int | None = None
    """Its line or row in `file`, from 1."""
    group: str | None = None
    """The group it belongs to: pairs of one group are held out together."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The chosen and the rejected answer, if they are given."""
        return () if self.chosen is None or self.rejected is None else (self.chosen, self.rejected)

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """The conversation that ends with each of the answers; without them, the one that is to be answered."""
        ended = [(*self.prompt, Message("assistant", answer)) for answer in self.answers] or [self.prompt]
        return tuple(Conversation(self.id, messages, self.file, self.line, self.group) for messages in ended)

    def mapped(self, change: Callable[[str], str]) -> Preference:
        """Return the example with `change`, which maps characters one to one, applied to all its texts."""
        prompt = tuple(one._replace(content=change(one.content)) for one in self.prompt)
        chosen, rejected, group = (text and change(text) for text in (self.chosen, self.rejected, self.group))
        return replace(self, prompt=prompt, chosen=chosen, rejected=rejected, group=group)

    def masked(self, mask: Mask) -> Preference:
        """Return the example with prompt and answers masked."""
        prompt = tuple(one._replace(content=mask(one.content).text) for one in self.prompt)
        chosen, rejected = (text and mask(text).text for text in (self.chosen, self.rejected))
        return replace(self, prompt=prompt, chosen=chosen, rejected=rejected)

    def checked(self) -> Preference:
        """Return the example if its turns are in order.

        Raises:
            DataError: they are not, or an answer is blank.
        """
        for conversation in self.conversations:
            check_turns(list(conversation.messages), self.place)
        if self.prompt[-1].role != "user":
            where = f"{self.place}: " if self.place else ""
            raise DataError(f"{where}the prompt ends with a turn of the {self.prompt[-1].role}; expected the user's")
        return self


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
            f'{what}: expected a text, or a list of messages, [{{"role": "{role}", "content": ...}}], not '
            f"{str(value)[:80]!r}"
        )
    return tuple(Message(*one) for one in parts)


def answer_of(messages: Messages, prompt: Messages, what: str) -> str:
    """Return the answer that `messages` are, by themselves or after `prompt`.

    Raises:
        DataError: they are not one answer; the message begins with `what` they are.
    """
    own = messages[len(prompt) :] if messages[: len(prompt)] == prompt else messages
    if [one.role for one in own] != ["assistant"]:
        raise DataError(
            f"{what}: expected one turn of the assistant after the prompt, not turns of "
            f"{', '.join(one.role[:20] for one in own) or 'nobody'}"
        )
    return own[0].content


def text_of(messages: Messages) -> str:
    """Return the contents of messages as one text, for a reader and for comparisons."""
    return "\n\n".join(one.content for one in messages)
