"""What a data set and a budget are, as the configuration has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.splits import Splits
from peftlab.sources import FilesSource, IndexSource
from peftlab.tasks.limits import Limits

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@runtime_checkable
class Format(Protocol):
    """How examples lie in files; of a format with a true attribute ``takes_folders``, in a folder a split."""

    def read(self, files: dict[str, Path]) -> dict[str, list[Any]]:
        """Return the examples of each split; raises DataError with file and line."""


def takes_folders(format: Format) -> bool:
    """Return whether a split is a folder in this format."""
    return bool(getattr(format, "takes_folders", False))


def _as_written(labels: Any) -> Any:
    """Return labels as texts, as data has them: Hydra and YAML make numbers and more of 0, true and null."""
    if not isinstance(labels, list):
        return labels
    if numbers := [label for label in labels if isinstance(label, float)]:
        raise ValueError(
            f"{numbers[0]} is a number that may be written otherwise in the data: put each label in quotes, as in "
            f"\"data.labels=['{numbers[0]}','b']\""
        )
    return [json.dumps(label) if isinstance(label, int | None) else label for label in labels]


@spec
class DataSpec:
    """A data set, and how it is cut into rows and batches."""

    name: str
    """Of the data set, in the record and in the names of folders."""
    path: str | None = None
    """The folder or file of the options for the user's own."""
    source: IndexSource | FilesSource
    """Where the files come from."""
    splits: Splits
    """The file of each split."""
    format: Format
    """How examples lie in the files, an object with `read`."""
    duplicates: Literal["keep", "drop"] = "keep"
    """What becomes of texts that a file has more than once: all stay, or the first of each; none whose gold differs."""
    labels: Annotated[list[str] | None, BeforeValidator(_as_written)] = None
    """The labels in order; None: those of the training split, sorted."""
    max_tokens: int = Field(default=128, ge=4)
    """The most tokens a row has, special tokens included."""
    long: Literal["split", "truncate"] = "split"
    """What becomes of a longer example: several rows, cut at word boundaries, or its end is lost."""
    batch_size: int = Field(default=16, ge=1)
    """Examples an optimiser step sees, over all devices and forward passes: the effective batch size."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """The most tokens that an optimiser step sees, padding included, in place of `batch_size`: every step takes about
    the same time and memory, and learns from many short examples or a few long ones. None: `batch_size` holds."""
    eval_batch_size: int = Field(default=64, ge=1)
    """Examples a batch of validation and test, on one device."""
    bucket_batches: int = Field(default=50, ge=1)
    """Batches that are drawn together and sorted by length; 1: no sorting."""
    workers: int = Field(default=0, ge=0, le=1024)
    """Processes that load batches; 0: the main process."""

    @property
    def limits(self) -> Limits:
        """How long a row is, as a task's encoding takes it."""
        return Limits(self.max_tokens, self.long)


@spec
class BudgetSpec:
    """How long a run is."""

    name: str
    """Of the budget, in the record."""
    max_epochs: int | None = Field(default=None, ge=1)
    """Passes over the training split."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; whichever limit comes first ends the run."""
    train_examples: int | None = Field(default=None, ge=1)
    """How many training examples take part: a fixed random choice, the same for every seed."""
    eval_examples: int | None = Field(default=None, ge=1)
    """The same for validation and test."""
    overfit_batches: int | None = Field(default=None, ge=1)
    """Train and validate on this many batches of the training split."""
    validate_every: float = Field(default=1.0, gt=0)
    """Epochs between validations."""
    test: bool = True
    """Whether the best checkpoint is tested."""

    def __post_init__(self) -> None:
        """Check that there is an end."""
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("give budget.max_epochs or budget.max_steps: without them the run has no end")
