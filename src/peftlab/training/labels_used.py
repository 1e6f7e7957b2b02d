"""Which labels a run reads: in training, and to choose by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping

from peftlab.data.module import DataModule


def label_budget(data: DataModule, callbacks: Iterable[Any], steps: int) -> dict[str, Any]:
    """Return the section `peftlab.runs.label_budget.SECTION` of the record of a run on loaded `data`.

    A validation by which nothing is chosen costs no labels: its scores are only reported.

    Args:
        data: the data of the run, with its budget.
        callbacks: those of its configuration.
        steps: its optimiser steps.
    """
    selects = {
        "checkpoint": data.budget.select == "best" and steps > 0,
        "early stopping": steps > 0 and any(isinstance(one, EarlyStopping) for one in callbacks),
        "decisions": data.task.decides,
    }
    named = [name for name, chooses in selects.items() if chooses]
    return {
        "trained_on": labelled(data, "train") if steps else data.task.labels_read(data.splits["train"].examples),
        "selected_on": labelled(data, "validation") if named else 0,
        "selects": named,
    }


def labelled(data: DataModule, split: str) -> int:
    """Return the number of examples of `split` that have a label which counts."""
    members = data.splits[split]
    return int((data.task.weights(members.examples, members.encoded, range(members.rows)) > 0).sum())
