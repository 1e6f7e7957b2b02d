"""Texts and what is to be written for them: a translation, a summary, a title."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from peftlab.personal_data.masked import Mask
from peftlab.reading.placed import Placed


@dataclass(frozen=True, slots=True)
class SourceTarget(Placed):
    """A text and its target, as read from its file, or without gold."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    source: str
    target: str | None = None
    """None without gold."""
    file: str = ""
    line: int | None = None
    """The line in `file`, from 1."""
    group: str | None = None
    """The group it belongs to, such as a document or an author."""

    def mapped(self, change: Callable[[str], str]) -> SourceTarget:
        """Return the example with `change`, which maps characters one to one, applied to all its texts."""
        target, group = (None if part is None else change(part) for part in (self.target, self.group))
        return replace(self, source=change(self.source), target=target, group=group)

    def masked(self, mask: Mask) -> SourceTarget:
        """Return the example with source and target masked."""
        target = None if self.target is None else mask(self.target).text
        return replace(self, source=mask(self.source).text, target=target)
