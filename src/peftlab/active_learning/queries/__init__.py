"""Which candidates are worth a label? One file a query, found because it lies here.

A query has a `SUMMARY`; `NEEDS`, what it reads of `Observed`; `REFUSES`, for each kind of task that it is not for, the
reason; and `choose`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Literal, Protocol, cast

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.errors import ConfigError, did_you_mean

Kind = Literal["classification", "several labels", "ner", "regression"]
"""The kinds of tasks whose examples a loop asks labels for."""
Need = Literal["distributions", "samples", "embeddings"]


class Query(Protocol):
    """The interface of a module in this folder."""

    SUMMARY: str
    """What it prefers, and who proposed it, in one line."""
    NEEDS: frozenset[Need]
    """What it reads of `Observed`; nothing: it asks without a model."""
    REFUSES: Mapping[Kind, str]
    """Why it is not for tasks of a kind; besides, none that reads distributions is for a regression."""

    def choose(self, pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
        """Return the places of `number` candidates, the first one first.

        Args:
            pool: the candidates.
            labelled: the examples whose labels are known, at least one.
            number: at most as many as there are candidates.
            random: for draws and ties.
        """


def names() -> list[str]:
    """Return the names of all queries."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def named(name: str) -> Query:
    """Return the query of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in names():
        raise ConfigError(
            f"--query {name}: there is no such query.{did_you_mean(name, names())} Queries: {', '.join(names())}"
        )
    return cast(Query, importlib.import_module(f"{__name__}.{name}"))


def check(name: str, kind: Kind) -> Query:
    """Return the query of a name, which tasks of this kind can use.

    Raises:
        ConfigError: there is none, or they cannot.
    """
    query = named(name)
    reason = query.REFUSES.get(kind)
    if kind == "regression" and query.NEEDS & {"distributions", "samples"}:
        reason = "a regression gives a number without a distribution; take random or coreset"
    if reason is not None:
        raise ConfigError(f"--query {name}: {reason}")
    return query
