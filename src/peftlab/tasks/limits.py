"""How long a row may be."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Limits(NamedTuple):
    """How long a row is, and what becomes of an example that is longer."""

    max_tokens: int
    """The most tokens a row has, special tokens included."""
    long: Literal["split", "truncate"]
    """Whether a longer example becomes several rows, or loses its end."""
