"""Rows with a prompt and two answers to it, of which one is preferred."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.errors import DataError
from peftlab.scores.preference_scores import CHOSEN, REJECTED
from peftlab.tasks.inputs.preferences import Messages, Preference, answer_of, messages_of, text_of


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class PreferenceRows(RowReader):
    """How to read pairs of answers. Prompt and answers are texts, or lists of messages ``{"role": ..., "content":
    ...}``; answers that are such lists may begin with the prompt.
    """

    example: ClassVar[type] = Preference

    prompt: str | None = "prompt"
    """The column of the prompt; None: the answers are whole conversations, which differ in their last turn."""
    chosen: str = "chosen"
    """The column of the preferred answer."""
    rejected: str = "rejected"
    """The column of the other one."""
    group: str | None = None
    """The column of the group, such as the source of the prompt: groups are held out whole. None: the pairs of one
    prompt are a group."""
    groups: ClassVar[bool] = True

    @property
    def text(self) -> str | None:
        """The name of the prompt among the inputs of a prediction."""
        return self.prompt

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Preference | None:
        """Return the pair in a row, None if its answers are equal; raises DataError."""
        answers = {name: _messages(row, getattr(self, name), name, place, "assistant") for name in (CHOSEN, REJECTED)}
        if answers[CHOSEN] == answers[REJECTED]:
            return None
        # conversations that are compared differ in their last turn alone
        whole = answers[CHOSEN][:-1]
        prompt = whole if self.prompt is None else _messages(row, self.prompt, "prompt", place, "user")
        if not prompt:
            raise DataError(
                f"{place}: '{self.chosen}' has no turn before its answer. Name the column of the prompt, "
                "data.format.rows.prompt=..., or mend or remove the row."
            )
        chosen, rejected = (
            answer_of(messages, prompt, f"{place}: '{getattr(self, name)}'") for name, messages in answers.items()
        )
        group = _digest(prompt) if self.group is None else cells.name(row, self.group, "group", place)
        return Preference(id, prompt, chosen, rejected, place.file, place.line, group).checked()


def _messages(row: Mapping[str, Any], column: str, setting: str, place: Place, role: str) -> Messages:
    return messages_of(cells.value(row, column, setting, place), role, f"{place}: '{column}'")


def _digest(prompt: Messages) -> str:
    return hashlib.sha256(text_of(prompt).encode(errors="surrogatepass")).hexdigest()[:12]
