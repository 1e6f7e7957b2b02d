"""The model of a finished run, as regularisers ask it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import nn

from peftlab.errors import ConfigError
from peftlab.tasks.batch import Batch


class Answering(ABC):
    """The model of a finished run that answers the batches of another."""

    sha256: str
    """The digest of all that it hangs on."""
    place: str
    """The folder of its run."""
    reads_alike: bool
    """Whether it makes the same inputs of an example as the other."""

    @property
    @abstractmethod
    def model(self) -> nn.Module:
        """The model, in evaluation mode."""

    @abstractmethod
    def outputs(self, batch: Batch) -> Any:
        """Return its outputs for `batch`, in the form and the units of the other's, without a gradient."""


def teacher_of(find: Callable[[str], Answering], teacher: str, sha256: str | None) -> Answering:
    """Return the model of the run that a regulariser names as its `teacher`.

    Args:
        find: returns the model of a run, by its folder or the start of its id.
        teacher: the run.
        sha256: the digest that the model had when the training began; None: any will do.

    Raises:
        ConfigError: it is another model now.
    """
    answering = find(teacher)
    if sha256 not in (None, answering.sha256):
        raise ConfigError(
            f"teacher={teacher}: it is not the run that this one began with, whose digest is {sha256}. Name that one, "
            "or set sha256=null to begin anew"
        )
    return answering
