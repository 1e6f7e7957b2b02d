"""A finding: an example that may be wrong or of no use, and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Reason = Literal["label error", "conflict", "duplicate", "near duplicate", "leak", "empty", "unread"]
"""Why an example is listed:

- label error: a model that has not seen the example is confident of another label;
- conflict: the same text has another label elsewhere in the split;
- duplicate: text and label repeat an earlier example of the split;
- near duplicate: the text is nearly that of an earlier example of the split;
- leak: a training text that is, or nearly is, one of the validation or test split;
- empty: the text has no characters other than white space, or no token;
- unread: the model does not see the whole text.
"""

REASONS: tuple[Reason, ...] = get_args(Reason)
"""All reasons, in the order of a list of findings."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An example that may be wrong or of no use."""

    split: str
    id: str
    reason: Reason
    text: str
    gold: str
    """The label; for a label error among words, the tags of the words in doubt, as ``word:tag``."""
    suggested: str = ""
    """The label, or the tags, that the model would give; empty where there is no suggestion."""
    score: float | None = None
    """The quality of the label, from 0 (surely wrong) to 1; None for other reasons."""
    note: str = ""
    """Further facts, such as the id of the other example."""
