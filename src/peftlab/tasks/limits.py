"""The length limit of a row."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Limits(NamedTuple):
    """The length limit of a row, and the treatment of longer examples."""

    max_tokens: int
    """Maximum number of tokens in a row, special tokens included."""
    long: Literal["split", "truncate"]
    """Whether a longer example becomes several rows or loses its end."""
