"""What a run does about training examples that may be wrong or of no use: reports, drops or downweights them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.cleaning.copies import TRAIN, Entry, copies
from peftlab.data.cleaning.listing import listed

Action = Literal["report", "drop", "downweight"]
"""Count the examples only; train without them; or train with them at a lower weight."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Cleaning:
    """The action for each kind of example, of the training split only; None: the kind is not looked for."""

    duplicates: Action | None = None
    """Repetitions of an earlier example, text and label."""
    conflicts: Action | None = None
    """All examples whose text has another label elsewhere in the training split."""
    near_duplicates: Action | None = None
    """Examples whose text is nearly that of an earlier one."""
    leaks: Action | None = None
    """Examples whose text is, or nearly is, one of the validation or test split."""
    label_errors: Action | None = None
    """The examples that the list `label_errors_from` names."""
    label_errors_from: Path | None = None
    """A list that ``peftlab clean RUN --split train --csv FILE`` wrote, and a person may have removed rows from."""
    weight: float | None = Field(default=None, gt=0, lt=1)
    """The factor on the weight in the loss of an example that is downweighted; None: a half."""

    def __post_init__(self) -> None:
        """Check that something is to be done, and that every setting has an effect."""
        if not self.chosen:
            raise ValueError(f"names no action: give one of {', '.join(_KINDS)} as report, drop or downweight")
        if (self.label_errors is None) != (self.label_errors_from is None):
            raise ValueError("label_errors and label_errors_from belong together: an action, and the list it is for")
        if self.weight is not None and "downweight" not in self.chosen.values():
            raise ValueError(f"weight={self.weight:g} has no effect: nothing is to be downweighted. Remove it")
        if self.label_errors_from is not None:
            self.label_errors_from = self.label_errors_from.expanduser()

    @property
    def chosen(self) -> dict[str, Action]:
        """The action of each kind that is looked for."""
        return {kind: action for kind in _KINDS if (action := getattr(self, kind)) is not None}

    def resolved(self) -> dict[str, Any]:
        """Return these options with an absolute path, as a run may be resumed or used from another folder."""
        listing = self.label_errors_from and str(self.label_errors_from.absolute())
        options = {**self.chosen, "label_errors_from": listing, "weight": self.weight}
        return {name: value for name, value in options.items() if value is not None}


_HALF = 0.5
_KINDS = ("duplicates", "conflicts", "near_duplicates", "leaks", "label_errors")


@dataclass
class Cleaned:
    """What is to be done about the training split."""

    dropped: dict[str, str] = field(default_factory=dict)
    """By id of an example that is left out, the kind that it is dropped for."""
    factors: dict[str, float] = field(default_factory=dict)
    """By id of an example, the factor on its weight in the loss; 1 for all others."""
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By kind: the ``action``, and the number of ``examples``; for the run record."""


def clean(cleaning: Cleaning, entries: Sequence[Entry], ids: Mapping[str, str]) -> Cleaned:
    """Return what `cleaning` does about the training examples among `entries`.

    Args:
        cleaning: the actions. An example of several kinds is dropped if one of them is, and downweighted once.
        entries: the examples of all splits.
        ids: the split of every example that a list of label errors may name, by id; the examples of a fold that is held
            out are still training examples to it.

    Raises:
        DataError: the list of label errors cannot be read or is of other data.
    """
    kinds: dict[str, Collection[str]] = {}
    if {*cleaning.chosen} - {"label_errors"}:
        found = copies(entries)
        for kind in ("duplicates", "conflicts", "near_duplicates", "leaks"):
            positions = getattr(found, kind)
            kinds[kind] = [entries[n].id for n in positions if entries[n].split == TRAIN]
    if cleaning.label_errors_from is not None:
        own = {entry.id for entry in entries if entry.split == TRAIN}
        kinds["label_errors"] = [id for id in listed(cleaning.label_errors_from, ids) if id in own]
    cleaned = Cleaned()
    for kind, action in cleaning.chosen.items():
        cleaned.counts[kind] = {"action": action, "examples": len(kinds[kind])}
        for id in kinds[kind]:
            if action == "drop":
                cleaned.dropped.setdefault(id, kind)
            elif action == "downweight":
                cleaned.factors[id] = cleaning.weight or _HALF
    cleaned.factors = {id: factor for id, factor in cleaned.factors.items() if id not in cleaned.dropped}
    return cleaned
