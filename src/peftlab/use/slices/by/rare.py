"""Rare labels: those that have less than half of an equal share of the training split's gold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peftlab.use.slices.subject import Slice, Subject, UnsuitedError


def slices(subject: Subject) -> Iterator[Slice]:
    """Yield the entities of rare types, or the examples whose gold has a rare label."""
    counts = subject.training.classes
    fewest = counts.total() / (2 * len(counts)) if counts else 0
    rare = {label for label, number in counts.items() if number < fewest}
    if not rare:
        raise UnsuitedError(
            f"none of {len(counts)} labels has less than half of an equal share of the training split"
            if counts
            else "its gold is no label"
        )
    if subject.has_entities:
        yield subject.of_mentions("rare label", lambda one: one.type in rare)
    else:
        yield subject.of_examples("rare label", [bool(rare & _labels(answer["gold"])) for answer in subject.answers])


def _labels(gold: Any) -> set[str]:
    if isinstance(gold, dict):  # intent and tags
        return _labels(gold.get("intent"))
    return {gold} if isinstance(gold, str) else set(map(str, gold)) if isinstance(gold, list) else set()
