"""The label budget of a run: how many labels it learnt from, and by how many anything was chosen. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from peftlab.runs.record import RunRecord

SECTION = "label_budget"
"""The section of the record: ``trained_on`` and ``selected_on``, numbers of examples, and what ``selects``."""


class LabelBudget(NamedTuple):
    """The labels that a run has read, those of the test split left out."""

    trained_on: int
    """Labelled training examples: those of the loss, and what else a task reads of them."""
    selected_on: int
    """Labelled validation examples by which a checkpoint, the end of the training or a threshold was chosen."""
    selects: Sequence[str]
    """What was chosen by them."""

    @property
    def exceeds(self) -> bool:
        """Whether more labels chose than taught."""
        return self.selected_on > self.trained_on

    def said(self) -> str:
        """Return the budget as half a sentence."""
        chosen = f"{self.selected_on:,} ({', '.join(self.selects)})" if self.selects else "none"
        return f"trained on {self.trained_on:,} labelled examples, selected on {chosen}"


def label_budget_of(record: RunRecord) -> LabelBudget | None:
    """Return the label budget of a run; None if its record has none that can be read."""
    section: Any = record.extensions.get(SECTION)
    if not isinstance(section, dict):
        return None
    trained_on, selected_on, selects = (section.get(key) for key in LabelBudget._fields)
    if not (isinstance(trained_on, int) and isinstance(selected_on, int) and isinstance(selects, list)):
        return None
    return LabelBudget(trained_on, selected_on, [str(one) for one in selects])
