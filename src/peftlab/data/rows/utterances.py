"""Rows with the words of an utterance, the tags of their slots, and its intent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place
from peftlab.data.rows.sentences import SentenceRows
from peftlab.tasks.inputs.utterances import Utterance


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class UtteranceRows(SentenceRows):
    """How to read utterances as a list of words, a list of as many BIO tags of slots, and an intent."""

    example: ClassVar[type] = Utterance

    words: str = "words"
    """The column of the words."""
    tags: str = "tags"
    """The column of the tags."""
    intent: str = "intent"
    """The column of the intent."""

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Utterance | None:
        """Return the utterance in a row, None if it is left out; raises DataError."""
        if (one := super().example_of(row, id, place)) is None:
            return None
        intent = cells.name(row, self.intent, "intent", place)
        return Utterance(
            one.id, one.words, one.tags, one.file, one.lines, group=one.group, weight=one.weight, intent=intent
        )
