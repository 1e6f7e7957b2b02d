"""The examples of a finished run's splits, for what is measured on some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.data.module import DataModule
from peftlab.use.evaluate import check_digests

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun


def examples_of(run: FinishedRun, split: str) -> Sequence[Any]:
    """Return the examples of a split that the run was scored on.

    Raises:
        UserError: the data cannot be read, or is no longer what the run was scored on.
    """
    data = DataModule(run.spec.data, run.predictor.task, run.processor, run.spec.budget, run.spec.seed)
    data.load()
    check_digests(run, data, [split])
    return data.splits[split].examples


def some(examples: Sequence[Any], limit: int | None, seed: int) -> list[Any]:
    """Return at most `limit` of `examples`, a random sample in their order; None: all of them."""
    if limit is None or limit >= len(examples):
        return list(examples)
    places = np.random.default_rng(seed).permutation(len(examples))[:limit]
    return [examples[place] for place in sorted(places)]
