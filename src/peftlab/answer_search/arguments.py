"""The arguments by which a command takes stored answers where a model has none of its own."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peftlab.errors import UserError
from peftlab.terminal.arguments import finite_number, positive_whole_number

RETRIEVERS = ("bm25", "dense", "hybrid")

SEARCHING = ("retriever", "top_k", "min_score")
"""The options that say how an index is searched."""


class TakesArguments(Protocol):
    """A parser, or a group of its arguments."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Declare an argument."""


@dataclass(frozen=True)
class Settings:
    """An index of answers, and how it is searched."""

    index: Path
    retriever: str | None = None
    """None: ``hybrid`` if the index has embeddings, else ``bm25``."""
    top_k: int = 3
    min_score: float | None = None


def add_fallback(parser: argparse.ArgumentParser) -> None:
    """Declare the index, and how it is searched."""
    group = parser.add_argument_group("stored answers for texts that are out of the run's scope")
    group.add_argument("--fallback", metavar="INDEX", type=Path, help="an index made by `peftlab answers`")
    add_search(group)


def add_search(group: TakesArguments) -> None:
    """Declare how an index is searched."""
    group.add_argument(
        "--retriever", choices=RETRIEVERS, help="by words, by meaning, or by both (default: both, if it has embeddings)"
    )
    group.add_argument(
        "--top-k", type=positive_whole_number, metavar="N", help="the most stored answers of a text (default 3)"
    )
    group.add_argument(
        "--min-score",
        type=finite_number,
        metavar="X",
        help="the least score, below which an answer is not given: of BM25, or the cosine (default: any)",
    )


def fallback_of(options: argparse.Namespace) -> Settings | None:
    """Return what the options say; None: there are no stored answers.

    Raises:
        UserError: it is said how to search, and not what.
    """
    if options.fallback is None:
        for name in SEARCHING:
            if getattr(options, name) is not None:
                raise UserError(f"--{name.replace('_', '-')}: it says how to search; name an index, --fallback INDEX")
        return None
    return search_of(options, options.fallback)


def search_of(options: argparse.Namespace, index: Path) -> Settings:
    """Return how the index is searched."""
    return Settings(index, options.retriever, options.top_k or 3, options.min_score)
