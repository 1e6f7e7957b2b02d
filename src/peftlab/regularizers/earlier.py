"""What a run may ask of a finished one that it is not to forget."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from peftlab.errors import ConfigError
from peftlab.regularizers.answering import Answering
from peftlab.tasks.task import Task

if TYPE_CHECKING:
    from peftlab.regularizers.regularizer import Material


@dataclass(frozen=True, slots=True)
class Importance:
    """The trained weights of a run, and how much its answers depend on each."""

    weights: Mapping[str, Tensor]
    """By name."""
    fisher: Mapping[str, Tensor]
    """The diagonal of their Fisher information, see `peftlab.training.fisher`, by name."""
    output: frozenset[str]
    """The names of those whose rows are for labels."""


class Earlier(Answering):
    """A finished run that a later one refers to."""

    task: Task
    """Its task, with its labels."""
    weights_sha256: str
    """The digest of the pretrained weights."""
    begun_with: bool
    """Whether the later run begins with its adapter."""

    @abstractmethod
    def importance(self, examples: int) -> Importance:
        """Return its weights and their importance, over so many of its training examples at most.

        Raises:
            ConfigError: its task predicts no distributions to draw labels from.
        """

    @abstractmethod
    def logits(self, examples: Sequence[Any]) -> list[np.ndarray]:
        """Return its logits of each of `examples`, shape (rows, labels) or (rows, tokens, labels), labels in its order.

        They are in the units of the later run's task. It reads the examples up to that run's limits, so that both have
        the same rows and tokens.

        Raises:
            ConfigError: its task has none for labels.
        """

    def check_reads_alike(self, task: Task) -> None:
        """Check that its answers can be compared with those of a run of `task`.

        Raises:
            ConfigError: they are for tokens, and it has another tokenizer.
        """
        if not self.reads_alike and task.head.outputs != "text":
            raise ConfigError(f"{self.place} has another tokenizer, and task={task.name} answers for each token")

    def places(self, labels: Sequence[str]) -> list[int]:
        """Return the places of its labels among `labels`, leaving out those that are not there, in that order."""
        return [place for place, label in enumerate(labels) if label in self.task.labels]


def earlier_runs(runs: Sequence[str], sha256: Sequence[str], material: Material) -> list[Earlier]:
    """Return finished runs by their folders or ids, with the digests `sha256`, or whatever they have if it is empty.

    Raises:
        UserError: one is none.
        ConfigError: one has another digest.
    """
    assert material.earlier is not None
    found = [material.earlier(run) for run in runs]
    if sha256 and list(sha256) != (own := [each.sha256 for each in found]):
        raise ConfigError(
            f"previous={', '.join(runs)}: not the runs that this one began with, whose digests are "
            f"{', '.join(sha256)} (these have {', '.join(own)}). Name those, or set sha256 to null to begin anew"
        )
    return found
