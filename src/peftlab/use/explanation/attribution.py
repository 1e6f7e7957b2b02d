"""What every explainer returns: a number for each word, and how far it can be trusted. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from peftlab.use.explanation.subject import Subject


@dataclass(frozen=True)
class Settings:
    """How thorough the explainers are."""

    steps: int = 50
    """Integrated gradients: steps along the path; doubled, up to eight times as many, where they are not complete."""
    samples: int = 32
    """Shapley values of more than eight words: sampled orders, in pairs of an order and its reverse."""
    seed: int = 0
    """Of what is sampled."""


@dataclass(frozen=True)
class Attribution:
    """How much each word adds to a logit, by one explainer."""

    values: np.ndarray
    """Shape (words,)."""
    errors: np.ndarray | None = None
    """Standard errors of the values, where they are sampled."""
    gap: float | None = None
    """How far the values are from summing to the logit with all words less that without any; None where they are not
    meant to."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the reader, such as the number of steps."""


Explainer = Callable[["Subject", Settings], Attribution]
"""Computes the attribution of a subject. It raises a UserError where the model does not allow it."""
