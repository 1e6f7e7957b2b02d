"""What a run does with its unlabelled texts, over time, for its record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_WINDOWS = 20
"""The most parts that a run is divided into."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step has seen of its unlabelled texts: sums over their distributions, which are in one tensor."""

    sums: Tensor
    """Shape (5 + 2 * classes,), in double precision."""
    classes: int

    @property
    def number(self) -> float:
        """The number of distributions."""
        return float(self.sums[0])

    @property
    def confidences(self) -> tuple[float, float]:
        """The sums of confidences, and of their squares."""
        return float(self.sums[3]), float(self.sums[4])

    @property
    def guesses(self) -> Tensor:
        """The sums of the probabilities of each class, shape (classes,)."""
        return self.sums[5 : 5 + self.classes]


def seen_of(
    guesses: Tensor,
    targets: Tensor,
    weights: Tensor,
    confidences: Tensor,
    right: Tensor | None,
    owners: Tensor,
    examples: int,
) -> Tensor:
    """Return what `Seen` sums up, for each labelled example, shape (examples, 5 + 2 * classes).

    Args:
        guesses: the guessed distributions, shape (distributions, classes).
        targets: what is learnt of each, whose most probable class may be another, of the same shape.
        weights: the weight of each as a target, shape (distributions,).
        confidences: how certain each is, in the terms of the method, shape (distributions,).
        right: whether the most probable class of the target is that of the gold; None: unknown.
        owners: the labelled example of each, shape (distributions,).
        examples: the number of these.
    """
    used = (weights > 0).double()
    right = torch.full_like(used, torch.nan) if right is None else right.double() * used
    of_classes = guesses.double()  # none
    if classes := guesses.shape[-1]:
        of_classes = torch.nn.functional.one_hot(targets.argmax(-1), classes) * used.unsqueeze(1)
    confidences = confidences.double()
    singles = torch.stack([torch.ones_like(used), used, right, confidences, confidences.square()], 1)
    values = torch.cat([singles, guesses.double(), of_classes], 1)
    return values.new_zeros(examples, values.shape[1]).index_add(0, owners, values)


class Tally:
    """Sums up what is seen in the windows of a run of so many `steps`.

    Args:
        classes: the names of the classes; empty: there are none.
        steps: the steps of the run.
    """

    def __init__(self, classes: Sequence[str], steps: int) -> None:
        self.classes, self.every = list(classes), max(1, -(-steps // _WINDOWS))
        self._now = torch.zeros(5 + 2 * len(classes), dtype=torch.float64)
        self._windows = torch.zeros(0, 1 + len(self._now), dtype=torch.float64)

    def add(self, seen: Seen, step: int) -> None:
        """Add what step `step`, from 1, has seen."""
        self._now = self._now + seen.sums
        if step % self.every == 0:
            row = torch.cat([torch.tensor([step], dtype=torch.float64), self._now])
            self._windows = torch.cat([self._windows, row.unsqueeze(0)])
            self._now = torch.zeros_like(self._now)

    @property
    def used(self) -> int:
        """The number of distributions that were targets so far."""
        return int(self._windows[:, 2].sum() + self._now[1])

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs."""
        return {"now": self._now, "windows": self._windows}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self._now, self._windows = state["now"], state["windows"]

    def described(self) -> dict[str, Any]:
        """Return the entries of the record: of the whole run so far, and of each window, named by its last step."""
        whole = self._windows[:, 1:].sum(0) + self._now
        return {
            **self._described(whole),
            "windows": [{"step": int(row[0]), **self._described(row[1:])} for row in self._windows],
        }

    def _described(self, sums: Tensor) -> dict[str, Any]:
        number, used, right, confidence = sums[:4].tolist()
        figures = {
            "seen": int(number),
            "used": int(used),
            "mask_rate": round(used / number, 6) if number else None,
            "mean_confidence": round(confidence / number, 6) if number else None,
        }
        if used and not math.isnan(right):
            figures["accuracy"] = round(right / used, 6)
        of_classes = sums[5 + len(self.classes) :].tolist()
        shares = {name: round(count / used, 6) for name, count in zip(self.classes, of_classes, strict=True) if used}
        return figures | ({"classes": shares} if shares else {})
