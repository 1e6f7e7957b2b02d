"""The data of a finished run, and the examples of its splits, for what is measured on some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.data.module import DataModule
from peftlab.federated.joining import divide
from peftlab.use.evaluate import check_digests

if TYPE_CHECKING:
    from peftlab.tasks.task import Task
    from peftlab.use.finished import FinishedRun


def data_of(run: FinishedRun, splits: Sequence[str] = (), task: Task | None = None) -> DataModule:
    """Return the data of `run`, loaded.

    Args:
        run: the run.
        splits: the splits that have to be what the run was trained or scored on.
        task: encodes the examples; None: the run's.

    Raises:
        UserError: the data cannot be read, or is no longer what it was.
    """
    spec = run.spec
    data = DataModule(spec.data, task or spec.task, run.processor, spec.budget, spec.seed)
    data.load()
    divide(spec.federated, data)
    check_digests(run, data, splits)
    return data


def examples_of(run: FinishedRun, split: str) -> Sequence[Any]:
    """Return the examples of a split that the run was scored on.

    Raises:
        UserError: the data cannot be read, or is no longer what the run was scored on.
    """
    return data_of(run, [split], run.parts.task).splits[split].examples


def some(examples: Sequence[Any], limit: int | None, seed: int) -> list[Any]:
    """Return at most `limit` of `examples`, a random sample in their order; None: all of them."""
    if limit is None or limit >= len(examples):
        return list(examples)
    places = np.random.default_rng(seed).permutation(len(examples))[:limit]
    return [examples[place] for place in sorted(places)]


def units_of(examples: Sequence[Any]) -> tuple[list[str], str]:
    """Return what each example is drawn with, and their kind: its group, such as its document, or it alone.

    It is ``groups`` where all examples have one, else ``examples``.
    """
    groups = [getattr(example, "group", None) for example in examples]
    if None in groups:
        return [str(example.id) for example in examples], "examples"
    return [str(group) for group in groups], "groups"
