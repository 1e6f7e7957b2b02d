"""Answers of models, compared up to rounding."""

from __future__ import annotations

from typing import Any


def flat(value: Any) -> list[Any]:
    """Return the numbers and texts of an answer, in order, which `pytest.approx` takes."""
    if isinstance(value, dict):
        return [leaf for key, one in value.items() for leaf in [key, *flat(one)]]
    return [leaf for one in value for leaf in flat(one)] if isinstance(value, list) else [value]
