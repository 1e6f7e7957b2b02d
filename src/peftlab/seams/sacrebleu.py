"""Privates of sacreBLEU."""

from __future__ import annotations

from typing import Any


def statistics(metric: Any, written: str, reference: str) -> list[int]:
    """Return the counts of one text under a metric such as chrF; a corpus has their sum."""
    (counts,) = metric._extract_corpus_statistics([written], [[reference]])
    return [int(count) for count in counts]
