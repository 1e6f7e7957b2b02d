"""What somebody says, as tagged words, and what it is meant for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from peftlab.tasks.inputs.words import Sentence


@dataclass(frozen=True, slots=True)
class Utterance(Sentence):
    """One utterance of a task with intents and slots; its tags are those of the slots."""

    intent: str | None = None
    """What is asked for, such as ``play_music``; None without gold."""

    def mapped(self, change: Callable[[str], str]) -> Utterance:
        """Return the utterance with `change`, which maps characters one to one, applied to all its texts."""
        sentence = Sentence.mapped(self, change)
        assert isinstance(sentence, Utterance)
        return replace(sentence, intent=None if self.intent is None else change(self.intent))
