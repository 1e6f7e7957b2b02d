"""Seen in training: entities whose words were one of the same type, of another type, or never; answers of questions."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.use.slices.subject import Mention, Slice, Subject, UnsuitedError


def slices(subject: Subject) -> Iterator[Slice]:
    """Yield the entities, or the answers of questions, that are in the gold of the training split, and the others."""
    if subject.has_entities:
        seen = subject.training.mentions

        def types(mention: Mention) -> frozenset[str]:
            return seen.get(" ".join(subject.words(mention)).lower(), frozenset())

        yield subject.of_mentions("seen in training", lambda one: one.type in types(one))
        yield subject.of_mentions("seen as another type", lambda one: bool(types(one)) and one.type not in types(one))
        yield subject.of_mentions("not seen in training", lambda one: not types(one))
    elif subject.asks_questions:
        known = subject.training.answers
        inside = [any(gold.lower() in known for gold in answer["gold"]) for answer in subject.answers]
        yield subject.of_examples("answer seen in training", inside)
    else:
        raise UnsuitedError("only entities and the answers of questions are looked for in the training split")
