"""The examples that an attack is asked about: those that a run was trained on, and others that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from peftlab.data.reading import read_data_set
from peftlab.errors import UserError
from peftlab.use.examples import data_of, some

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

Source = Literal["rest", "test", "validation"]
"""Where the others come from: ``rest`` are training examples that the run's budget left out, by chance."""

SOURCES: tuple[Source, ...] = ("rest", "test", "validation")

FEWEST = 10
"""Members, and others, below which nothing can be said."""


@dataclass(frozen=True)
class Pool:
    """Members and others, in equal number where there are enough of both."""

    examples: list[Any]
    member: np.ndarray
    """Whether an example is one, shape (examples,)."""
    clusters: np.ndarray
    """The cluster of each example: 0, 1, ...; shape (examples,)."""
    units: str
    """What is independent: ``groups`` of examples, such as documents, or ``examples``."""
    source: Source
    repeated: int
    """Others that were left out, because a training example has the same text."""


def pool_of(run: FinishedRun, source: Source | None = None, limit: int | None = 1000, seed: int = 0) -> Pool:
    """Return members of the training split of `run`, and as many others.

    Args:
        run: the run.
        source: where the others come from; None: the first of `SOURCES` that has `FEWEST`.
        limit: the most members, and the most others, random samples; None: as many as there are.
        seed: of the samples.

    Raises:
        UserError: the data is not what the run was trained on, or there are too few of either.
    """
    data = data_of(run, ["train"])
    members = data.splits["train"].examples
    inside = {example.id for example in members}
    texts = {data.task.text_key(example) for example in members}
    tried = {}
    for name in SOURCES if source is None else (source,):
        everything = _others(run, name, inside, data)
        unseen = [example for example in everything if data.task.text_key(example) not in texts]
        tried[name] = len(unseen)
        if min(len(unseen), len(members)) >= FEWEST:
            size = min(len(unseen), len(members), limit or len(unseen))
            examples = some(members, size, seed) + some(unseen, size, seed)
            clusters, units = _clusters(examples)
            return Pool(examples, np.arange(2 * size) < size, clusters, units, name, len(everything) - len(unseen))
    found = ", ".join(f"{count:,} of {name}" for name, count in tried.items())
    raise UserError(
        f"{run.folder.path}: an audit needs {FEWEST} training examples and {FEWEST} others with other texts; there are "
        f"{len(members):,}, and {found}. Train on a half to keep the other, budget.half=0"
    )


def _others(run: FinishedRun, source: Source, members: set[str], data: Any) -> Sequence[Any]:
    """Return the examples of a source that are no members."""
    if source == "rest":
        whole = read_data_set(run.spec.data, data.task)[0]["train"]
        return [example for example in whole if example.id not in members]
    is_members = source not in data.splits or data.splits[source] is data.splits["train"]
    return [] if is_members else data.splits[source].examples


def _clusters(examples: Sequence[Any]) -> tuple[np.ndarray, str]:
    groups = [getattr(example, "group", None) for example in examples]
    if None in groups:
        return np.arange(len(examples)), "examples"
    return np.unique(list(map(str, groups)), return_inverse=True)[1], "groups"


def seen_by(run: FinishedRun, examples: Sequence[Any], data_sha256: str) -> np.ndarray:
    """Return which of `examples` are in the training split of another run, shape (examples,).

    Args:
        run: the other run.
        examples: examples of the training file, or of other splits.
        data_sha256: the digest of the training file; a run on another one is taken not to know them.

    Raises:
        UserError: the data is no longer what the run was trained on.
    """
    if run.record.data["identity"]["data_sha256"]["train"] != data_sha256:
        return np.zeros(len(examples), bool)
    seen = {example.id for example in data_of(run, ["train"]).splits["train"].examples}
    return np.asarray([example.id in seen for example in examples])
