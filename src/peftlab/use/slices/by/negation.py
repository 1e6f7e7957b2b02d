"""Negation: entities in the scope of one, or texts with one; of a question and its text, only the question counts."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.tasks.inputs.splitting import words_of
from peftlab.use.slices.negation_scopes import has_negation, negated
from peftlab.use.slices.subject import Slice, Subject


def slices(subject: Subject) -> Iterator[Slice]:
    """Yield the negated entities and the others in the same texts; or the texts with a negation (English)."""
    if subject.has_entities:
        scopes = [negated(words) for words in subject.text_words]
        has = [has_negation(words) for words in subject.text_words]
        yield subject.of_mentions("negated", lambda one: scopes[one.answer][one.start])
        yield subject.of_mentions(
            "beside a negation", lambda one: has[one.answer] and not scopes[one.answer][one.start]
        )
    elif subject.asks_questions:
        asked = [texts[0] for texts in subject.texts]
        yield subject.of_examples("negation in the question", [has_negation(_words(text)) for text in asked])
    else:
        yield subject.of_examples("negation", [has_negation(words) for words in subject.text_words])


def _words(text: str) -> list[str]:
    return [text[start:end] for start, end in words_of(text)]
