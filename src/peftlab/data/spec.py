"""The configuration of a data set and of a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.aside import Aside
from peftlab.data.cleaning.actions import Cleaning
from peftlab.data.cleaning.folds import Fold
from peftlab.data.hub_source import HubDataSource
from peftlab.data.masked.option import MaskPii
from peftlab.data.memory import Memory
from peftlab.data.named_files import NamedFile
from peftlab.data.splits import Splits
from peftlab.data.subset import Subset
from peftlab.data.written import as_written
from peftlab.scores.scorer import SCORED
from peftlab.sources import Fetched, FilesSource, IndexSource
from peftlab.tasks.limits import Limits

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@runtime_checkable
class Format(Protocol):
    """Reads examples from files or from one folder per split: its attribute ``takes_folders`` says which, or its method
    of that name, given the folder of the data set.

    An attribute ``example`` names the type of its examples, so that the task that takes them is found; where several
    tasks do, an attribute ``task`` names the option of ``conf/task`` that the format is for.
    """

    def read(self, files: dict[str, Path]) -> Mapping[str, Sequence[Any]]:
        """Return the examples of each split; raises DataError with file and line."""


def takes_folders(format: Format, path: Path) -> bool:
    """Return whether a split is a folder in this format, of a data set at `path`."""
    taken = getattr(format, "takes_folders", False)
    return bool(taken(path) if callable(taken) else taken)


def digest_of(format: Format, fetched: Fetched, name: str) -> str:
    """Return the sha256 of all that the format reads of a split: the file, the folder or the files `name`, and for a
    table of other files, these too.

    Raises:
        SourceError, DataError: something of it cannot be read.
    """
    own: Callable[[Path], str] | None = getattr(format, "digest", None)
    return fetched.digest(name) if own is None else own(fetched.file(name))


def _sample_size(size: Any) -> Any:
    """Return the size of a sample as a whole number or a share."""
    if size is None or (isinstance(size, float) and 0 < size < 1):
        return size
    if isinstance(size, bool) or not isinstance(size, int | float) or size < 1 or not float(size).is_integer():
        raise ValueError(f"expected a whole number of examples, a share of them such as 0.1, or null, not {size!r}")
    if isinstance(size, float) and size == 1:  # a share that has reached the whole, or one example
        raise ValueError("1.0 may be one example or all of them: write 1, or null for all")
    return int(size)


@spec
class DataSpec:
    """A data set, and its division into rows and batches."""

    name: str
    """Name of the data set in run records and folder names."""
    path: str | None = None
    """The user's folder or file, or a repository of the hub, for data options that read one."""
    source: IndexSource | HubDataSource | FilesSource
    """Where the files come from."""
    splits: Splits
    """The file of each split."""
    format: Format
    """The format of the files, an object with `read`."""
    duplicates: Literal["keep", "drop"] = "keep"
    """Treatment of repeated texts in a file: keep all, or drop all but the first, and all if their gold differs."""
    clean: Cleaning | None = None
    """What is done about training examples that may be wrong; None: nothing, and none is looked for."""
    fold: Fold | None = None
    """The fold of the training split that is held out and tested in place of the test split, such as ``2/5``; None: the
    whole split is trained on."""
    replay: list[Memory] | None = None
    """Training examples of earlier runs that follow the run's own; None: there are none."""
    subset: Subset | None = None
    """The examples that are used, in every split; None: all."""
    mask_pii: MaskPii | None = None
    """The personal data that is masked in every text as it is read, at prediction too; None: none is looked for."""
    labelled: NamedFile | None = None
    """Further training examples that people have labelled one by one, see `peftlab.data.labelled`; None: no others."""
    labels: Annotated[list[str] | None, BeforeValidator(as_written)] = None
    """The labels in order; None: those of the training split, sorted."""
    max_tokens: int = Field(default=128, ge=4)
    """Maximum number of tokens in a row, special tokens included."""
    long: Literal["split", "truncate"] = "split"
    """Treatment of longer examples: split into rows at word boundaries, or truncate."""
    batch_size: int = Field(default=16, ge=1)
    """Examples per optimiser step, over all devices and forward passes: the effective batch size."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Maximum tokens per optimiser step, padding included, in place of `batch_size`: every step takes about the same
    time and memory, and learns from many short examples or a few long ones. None: `batch_size` applies."""
    eval_batch_size: int = Field(default=64, ge=1)
    """Examples per batch of validation and test, on one device."""
    bucket_batches: int = Field(default=50, ge=1)
    """Number of batches that are drawn together and sorted by length; 1: no sorting."""
    workers: int = Field(default=0, ge=0, le=1024)
    """Number of processes that load batches; 0: the main process."""
    aside: Aside | None = field(default=None, init=False)
    """Which examples are none of the classes, as the section ``out_of_scope`` says; None: each is of one."""

    def __post_init__(self) -> None:
        """Check that cleaning and replay have something to act on."""
        if self.replay == []:
            raise ValueError("replay: an empty list remembers nothing: name a run, or leave it out (null)")
        if self.duplicates == "drop" and self.clean is not None:
            for kind in ("duplicates", "conflicts"):
                if getattr(self.clean, kind) is not None:
                    raise ValueError(
                        f"clean.{kind}: there are none, for data.duplicates=drop leaves them out. Remove it"
                    )

    @property
    def limits(self) -> Limits:
        """The length limits for a task's encoding."""
        return Limits(self.max_tokens, self.long)


@spec
class BudgetSpec:
    """The length of a run."""

    name: str
    """Name of the budget in run records."""
    max_epochs: int | None = Field(default=None, ge=1)
    """Passes over the training split."""
    max_steps: int | None = Field(default=None, ge=0)
    """Optimiser steps; whichever limit comes first ends the run. 0: nothing is trained, and the model is scored as it
    begins."""
    max_passes: int | None = Field(default=None, ge=1)
    """Forward passes over the training split, those of regularisers included: runs of equal compute. One that passes
    over each batch twice trains for half as many epochs."""
    train_examples: Annotated[int | float | None, BeforeValidator(_sample_size)] = None
    """Number of training examples, or the share of them: a random sample, the same for every seed of the run."""
    stratified: bool = False
    """Whether the sample has the classes in the proportions of the whole training split."""
    per_class: int | None = Field(default=None, ge=1)
    """In place of `train_examples`: a sample that holds each class this often, such as 16 texts of each label or
    sentences with 16 entities of each type ("16 shots")."""
    sample_seed: int = Field(default=0, ge=0, lt=2**32)
    """Chooses the sample; of one seed, a larger sample contains the smaller ones."""
    listed: NamedFile | None = None
    """In place of a sample: the examples that a file names by their ids, see `peftlab.data.listed`."""
    half: int | None = Field(default=None, ge=0)
    """Train on a random half of the sample only, so that the other half tells how much a model reveals of what it was
    trained on, see `peftlab audit`. A fair coin decides on each example; an even number and the next one are the two
    halves of one throw, as 0 and 1. None: the whole sample."""
    eval_examples: int | None = Field(default=None, ge=1)
    """Number of validation, and of test examples: a random sample; None: all of them."""
    validation_per_class: int | None = Field(default=None, ge=1)
    """A validation split that holds each class this often, chosen as by `per_class`: selection by as few labels as the
    training has; `eval_examples` then cuts the test alone. None: `eval_examples` cuts both."""
    select: Literal["best", "last"] = "best"
    """Whether the best checkpoint by the validation score is tested, or the last one, whatever the validation says."""
    overfit_batches: int | None = Field(default=None, ge=1)
    """Train and validate on this many batches of the training split."""
    validate_every: float = Field(default=1.0, gt=0)
    """Epochs between validations."""
    test: bool = True
    """Whether the best checkpoint is tested."""

    def __post_init__(self) -> None:
        """Check that the run ends, and that one rule chooses its examples."""
        if self.max_epochs is None and self.max_steps is None and self.max_passes is None:
            raise ValueError("give budget.max_epochs, max_steps or max_passes: without them the run has no end")
        if self.per_class is not None and self.train_examples is not None:
            raise ValueError("per_class and train_examples both choose the sample: set one of them to null")
        if self.per_class is not None and self.stratified:
            raise ValueError("per_class takes equally many of each class: set stratified=false")
        if self.listed is not None and (self.train_examples, self.per_class, self.stratified) != (None, None, False):
            raise ValueError("listed names the examples: set train_examples=null, per_class=null, stratified=false")

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits that the best checkpoint is scored on."""
        return SCORED if self.test else SCORED[:1]
