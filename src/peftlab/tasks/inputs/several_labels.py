"""Texts and text pairs with any number of labels each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from peftlab.personal_data.masked import Mask
from peftlab.reading.placed import Placed


@dataclass(frozen=True, slots=True)
class LabelledText(Placed):
    """One text, or pair of texts, with its set of labels, as read from its file, or without gold."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    text: str
    labels: tuple[str, ...] | None
    """Sorted, each once; it may have none. None without gold."""
    pair: str | None = None
    """The second text of a pair."""
    file: str = ""
    line: int | None = None
    """The line, or the row, of the text in `file`, from 1."""
    group: str | None = None
    """The group it belongs to, such as a document or an author."""
    weight: float | None = None
    """The factor on its weight in the loss, if it is trained on; None: it has none of its own, and counts as 1."""

    def mapped(self, change: Callable[[str], str]) -> LabelledText:
        """Return the example with `change`, which maps characters one to one, applied to all its texts."""
        labels = None if self.labels is None else tuple(sorted({change(label) for label in self.labels}))
        pair, group = (None if part is None else change(part) for part in (self.pair, self.group))
        return replace(self, text=change(self.text), labels=labels, pair=pair, group=group)

    def masked(self, mask: Mask) -> LabelledText:
        """Return the example with both texts masked."""
        return replace(self, text=mask(self.text).text, pair=None if self.pair is None else mask(self.pair).text)
