"""The model of a finished run, as regularisers ask it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from peftlab.tasks.batch import Batch


class Answering(ABC):
    """The model of a finished run that answers the batches of another."""

    sha256: str
    """The digest of all that it hangs on."""
    place: str
    """The folder of its run."""
    reads_alike: bool
    """Whether it reads the same tokens as the other."""

    @property
    @abstractmethod
    def model(self) -> nn.Module:
        """The model, in evaluation mode."""

    @abstractmethod
    def outputs(self, batch: Batch) -> Any:
        """Return its outputs for `batch`, in the form of the other's, without a gradient."""
