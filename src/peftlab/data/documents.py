"""Documents whose sentences are examples: they are divided whole, and compared with those of the other splits."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from peftlab.data.duplicates import near_duplicates
from peftlab.data.form import columns_of
from peftlab.tasks.inputs.questions import Question

log = logging.getLogger("peftlab")

_MOST = 5
"""Near duplicates that are named."""
_MOST_DOCUMENTS = 20_000
"""More take longer to compare than a user would wait for."""

TextKey = Callable[[Any], str]


def document_key(task: Any) -> TextKey:
    """Return the function that gives what an example holds of its document: a question's text, else all of it."""
    key: TextKey = operator.attrgetter("context") if issubclass(task.example, Question) else task.text_key
    return key


def has_documents(format: Any) -> bool:
    """Return whether the groups of the format are documents, of which its examples are parts."""
    return bool(getattr(columns_of(format), "documents", False))


def whole_texts(examples: Sequence[Any], text_key: TextKey) -> tuple[list[str], list[int]]:
    """Return the text of each document, and for each example the number of its document."""
    numbers: dict[Any, int] = {}
    owner = [numbers.setdefault(example.group, len(numbers)) for example in examples]
    texts: list[dict[str, None]] = [{} for _ in numbers]  # all questions about a text have the same
    for example, number in zip(examples, owner, strict=True):
        texts[number][text_key(example)] = None
    return ["\n".join(parts) for parts in texts], owner


def near_documents(splits: Mapping[str, Sequence[Any]], text_key: TextKey) -> list[tuple[str, str]]:
    """Return the pairs of near-duplicate documents that are in two splits, each as ``split: document``."""
    texts: list[str] = []
    names: list[tuple[str, Any]] = []
    for split, examples in splits.items():
        own, owner = whole_texts(examples, text_key)
        groups = dict(zip(owner, (example.group for example in examples), strict=True))
        texts += own
        names += [(split, groups[number]) for number in range(len(own))]
    families: dict[int, list[tuple[str, Any]]] = {}
    for name, first in zip(names, near_duplicates(texts), strict=True):
        families.setdefault(first, []).append(name)
    return [
        (f"{one[0]}: {one[1]}", f"{other[0]}: {other[1]}")
        for family in families.values()
        for one, other in combinations(family, 2)
        if one[0] != other[0]
    ]


def check_documents(splits: Mapping[str, Sequence[Any]], text_key: TextKey) -> None:
    """Say how many documents each split has, and warn of near duplicates in two splits; equal names are no matter."""
    listed = ", ".join(f"{len({example.group for example in members}):,} {split}" for split, members in splits.items())
    if sum(len({example.group for example in members}) for members in splits.values()) > _MOST_DOCUMENTS:
        log.info("documents: %s; more than %s are not compared", listed, f"{_MOST_DOCUMENTS:,}")
        return
    near = near_documents(splits, text_key)
    log.info("documents: %s%s", listed, "" if near else "; none is nearly in two splits")
    if near:
        named = "; ".join(" and ".join(pair) for pair in near[:_MOST])
        more = f"; and {len(near) - _MOST} more" if len(near) > _MOST else ""
        log.warning(
            "%d pairs of documents in two splits are nearly the same, so that scores are too high: %s%s. Leave one of "
            "each out of its file",
            len(near),
            named,
            more,
        )
