"""What the user decides about a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MARGIN = 0.005
"""The part of what a score can be within which differences do not matter: half a point of F1."""

Cluster = Literal["auto", "example", "group"]
"""What is drawn anew when the test split is resampled: examples, or groups of them such as documents."""


@dataclass(frozen=True)
class Options:
    """The choices behind a report."""

    by: tuple[str, ...] = ()
    """Dotted keys of the configuration that make the groups; empty: the axes that differ between tested runs, but for
    the seed and what was tuned."""
    metric: str | None = None
    """The score to compare; None: the one that selected each run's best checkpoint."""
    baseline: str | None = None
    """The group that all others are compared with, by name; None: full fine-tuning, else a group without the axis that
    differs, else the first."""
    cluster: Cluster = "auto"
    """``auto``: groups where every prediction has one."""
    margin: float | None = None
    """A difference that does not matter, in units of the score: two methods are tied if theirs is surely smaller. None:
    `MARGIN` of the way from the least to the largest value of the score; without these there is none, and no tie."""
    level: float = 0.95
    """Probability of the intervals."""
    price_per_device_hour: float | None = None
    """In any currency; None: no money in the report."""
