"""The scorer that a record names, made again from its name and labels. No torch, and no list of scorers to keep."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from functools import cache

import peftlab.scores
from peftlab.scores.scorer import Scorer


def scorer_of(name: str, labels: Sequence[str]) -> Scorer | None:
    """Return the scorer called `name` of answers with these `labels`; None if no scorer in this folder has that name.

    Args:
        name: as the scores of a record have it, such as ``conll entity-level, repair=conlleval``.
        labels: those of the record's data.
    """
    for kind in _kinds():
        scorer = kind.named(name, labels)
        if scorer is not None and scorer.name == name:
            return scorer
    return None


@cache
def _kinds() -> tuple[type[Scorer], ...]:
    return tuple(_of_modules())


def _of_modules() -> Iterator[type[Scorer]]:
    """Yield the scorers that the modules beside this one define."""
    for module in pkgutil.iter_modules(peftlab.scores.__path__, f"{peftlab.scores.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Scorer) and value.__module__ == module.name:
                yield value
