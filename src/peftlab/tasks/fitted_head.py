"""The part of a task whose head is fitted to the training split, where gradients do not train it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

if TYPE_CHECKING:
    from peftlab.tasks.batch import Batch


class MayFitHead:
    """A task that may fit weights of its head, such as those of a logistic regression on the encoder's embeddings."""

    fits_head: ClassVar[bool] = False
    """Whether `fit_head` sets weights that gradients do not train."""

    only_fitted: ClassVar[frozenset[str]] = frozenset()
    """Last parts of the names of weights that `fit_head` alone sets, as no gradient reaches them."""

    @property
    def head_of(self) -> dict[str, str]:
        """The parts of the head whose rows an adapter's are not matched with by label, each with the key of the run's
        configuration that says what they stand for."""
        return {}

    def begin_head(self, model: nn.Module) -> None:
        """Set weights of the head that training begins from, by the adapted model before its first step, on the CPU."""

    def fit_head(self, model: nn.Module, seen: Iterable[tuple[Any, Batch]]) -> None:
        """Set the weights of `model` that are fitted to the training split; called before each validation in training.

        The best checkpoint holds them, so that they are never fitted again to score or to use it.

        Args:
            model: the adapted model, in evaluation mode; the weights to set are among its trained ones.
            seen: the training split in evaluation batches, read without `Random`, each with the model's outputs. To be
                read once; the batches are on the model's device.
        """
        raise NotImplementedError(f"{type(self).__name__} has `fits_head` without `fit_head`")
