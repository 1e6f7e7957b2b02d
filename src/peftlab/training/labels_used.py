"""Which labels a run reads: in training, and to choose by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping

from peftlab.data.aside import LABELLED_VALIDATION
from peftlab.data.module import DataModule
from peftlab.data.spec import BudgetSpec
from peftlab.errors import ConfigError
from peftlab.runs.label_budget import SECTION
from peftlab.runs.record import RunRecord


def begin(record: RunRecord, data: DataModule, callbacks: Iterable[Any], steps: int) -> None:
    """Add what is known of examples and labels before training to the record; arguments as of `label_budget`."""
    record.extend(SECTION, label_budget(data, callbacks, steps))
    if data.augmenter is not None:
        record.extend("augmentation", data.augmenter.counts)
    if facts := data.task.facts():
        record.extend(data.task.name, facts)


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
        "early stopping": steps > 0 and any(map(_stops_by_validation, callbacks)),
        "decisions": data.task.decides,
        "out of scope": data.spec.aside is not None,
    }
    apart = data.aside[LABELLED_VALIDATION].rows if LABELLED_VALIDATION in data.aside else 0
    named = [name for name, chooses in selects.items() if chooses]
    return {
        "trained_on": labelled(data, "train") if steps else data.task.labels_read(data.splits["train"].examples),
        "selected_on": labelled(data, "validation") + apart if named else 0,
        "selects": named,
    }


def refuse_stopping(budget: BudgetSpec, callbacks: Mapping[str, Any]) -> None:
    """Check that no callback ends a training by a validation score that is to select nothing.

    Raises:
        ConfigError: one does.
    """
    stopping = [name for name, one in callbacks.items() if _stops_by_validation(one)]
    if budget.select == "last" and budget.max_steps != 0 and stopping:
        raise ConfigError(
            f"budget.select=last: callbacks.{stopping[0]} would end the training by a validation score, which is a "
            "choice too. Leave it out: callbacks=[progress]"
        )


def _stops_by_validation(callback: Any) -> bool:
    """Return whether a callback ends the training by a validation score, rather than by one of the training."""
    return isinstance(callback, EarlyStopping) and not callback.monitor.startswith("train/")


def labelled(data: DataModule, split: str) -> int:
    """Return the number of examples of `split` that have a label which counts."""
    members = data.splits[split]
    return int((data.task.weights(members.examples, members.encoded, range(members.rows)) > 0).sum())
