"""Question types: the word that a question asks with, in English."""

from __future__ import annotations

import re
from collections.abc import Iterator

from peftlab.use.slices.subject import Slice, Subject, UnsuitedError

_TYPES = ("how many", "how", "who", "when", "where", "which", "why", "what", "yes or no", "other")
_ASKING = re.compile(
    r"\b(how(?:\s+(?:many|much|often|long|old))?|who(?:m|se)?|when|where|which|why|what)\b", re.IGNORECASE
)
_OF_YES = re.compile(
    r"\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|should|will|would|may|might|must)\b", re.IGNORECASE
)


def slices(subject: Subject) -> Iterator[Slice]:
    """Yield the types of the questions: of extractive answers, and of texts that mostly end in a question mark."""
    asked = [next((text for text in texts if text.rstrip().endswith("?")), "") for texts in subject.texts]
    if subject.asks_questions:
        asked = [texts[0] for texts in subject.texts]
    elif 2 * sum(map(bool, asked)) < len(asked):
        raise UnsuitedError("fewer than half of its inputs have a question")
    types = [type_of(question) for question in asked]
    yield from (subject.of_examples(name, [one == name for one in types]) for name in _TYPES if name in types)


def type_of(question: str) -> str:
    """Return the type of a question: by how it begins, else by the first word that asks."""
    if _OF_YES.match(question):
        return "yes or no"
    if (match := _ASKING.search(question)) is None:
        return "other"
    word = " ".join(match[1].lower().split())
    return "how many" if word.startswith("how ") else "who" if word.startswith("who") else word
