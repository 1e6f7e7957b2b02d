"""Which modules and parameters belong to the task's head."""

from __future__ import annotations

from collections.abc import Iterable


def is_of_head(name: str, head: Iterable[str]) -> bool:
    """Return whether a module or parameter belongs to the head, whatever a method has wrapped around it."""
    return any(f".{module}." in f".{name}." for module in head)
