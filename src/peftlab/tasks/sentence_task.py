"""What all tasks on the words of a sentence share: their inputs, and what the model does not see of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlab.errors import DataError
from peftlab.tasks.inputs.splitting import words_of
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.task import Encoded, Task, check_size, spec


@spec
class SentenceTask(Task):
    """A task whose examples are sentences, encoded as `encode_words` does."""

    def from_input(self, fields: Mapping[str, Any], id: str) -> Any:
        """Return an example of ``words``, or of ``text`` split by `words_of`; its tags are all O."""
        text, words = fields.get("text"), fields.get("words")
        kind: type[Sentence] = self.example
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return kind(id, words, ["O"] * len(words))
        if words is not None or not isinstance(text, str):
            raise DataError("expected `text`, a string, or `words`, a list of strings")
        check_size(len(text))
        spans = words_of(text)
        return kind(id, [text[start:end] for start, end in spans], ["O"] * len(spans), text=text, spans=spans)

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of words that are truncated, have no token, or are longer than a row."""
        return {
            "truncated words": encoded.counts["truncated"],
            "words without a token": encoded.counts["emptied"],
            "words without their end, longer than a row": encoded.counts.get("cut", 0),
        }

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``truncated`` and the numbers of ``lost_words``, of ``emptied_words``, which have no token, and of
        ``cut_words``, which are longer than a row, where they apply.
        """
        truncated, emptied, cut = (int(encoded.arrays[name][index]) for name in ("truncated", "emptied", "cut"))
        counted = {"lost_words": truncated, "emptied_words": emptied, "cut_words": cut}
        return ({"truncated": True} if truncated else {}) | {name: count for name, count in counted.items() if count}
