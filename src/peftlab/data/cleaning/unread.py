"""Texts that are empty, or of which the model does not see everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peftlab.data.cleaning.copies import Entry, label_of, shown
from peftlab.data.cleaning.finding import Finding


def findings(entries: Sequence[Entry], lost: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return the texts without a character or a token, and then those that are not read whole.

    Args:
        entries: the examples.
        lost: what the model does not see of each, as `Task.lost` returns it; empty if it sees all.
    """
    empty, unread = [], []
    for entry, facts in zip(entries, lost, strict=True):
        text, gold = shown(entry.text), label_of(entry.gold)
        if not text.strip() or facts.get("empty"):
            empty.append(Finding(entry.split, entry.id, "empty", text, gold))
        elif facts:
            note = ", ".join(name if value is True else f"{value} {name}" for name, value in facts.items())
            unread.append(Finding(entry.split, entry.id, "unread", text, gold, note=note.replace("_", " ")))
    return [*empty, *unread]
