"""The stored answers that are given where a model has none of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peftlab.answer_search.index import AnswerIndex, Retriever


@dataclass(frozen=True)
class Fallback:
    """An index, and how it is searched."""

    index: AnswerIndex
    retriever: Retriever = "bm25"
    """See `Retriever`."""
    top_k: int = 3
    """The most answers."""
    min_score: float | None = None
    """The least score, see `AnswerIndex.search`; None: any."""

    def answers(self, question: str) -> list[dict[str, Any]]:
        """Return the best answers to a question, best first; none if none is good enough."""
        return self.index.search(question, self.retriever, self.top_k, self.min_score)
