"""The part of a task that is set by the training examples themselves, apart from its loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peftlab.tasks.fitted_head import MayFitHead
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor

if TYPE_CHECKING:
    from peftlab.tasks.task import Encoded, Task


@dataclass(frozen=True)
class Study:
    """What `FromExamples.study` has beside the training examples."""

    seed: int
    """The seed of the run."""
    limits: Limits
    """Those of the encoding."""
    processor: Processor
    """That of the encoding."""
    load_model: Callable[[Task], Any] | None = None
    """Loads the pretrained model with the head of a task; None: the run is known, and nothing is left to choose."""


class FromExamples(MayFitHead):
    """What a task takes from the training examples: before they are encoded, after that, and from trained outputs."""

    @property
    def reading_options(self) -> list[str]:
        """The options, as overrides, that have the task read training examples before or beside the training."""
        return []

    def study(self, examples: Sequence[Any], about: Study) -> None:
        """Set what the encoding needs to know of the training `examples`, such as demonstrations.

        It is called before anything is encoded; `settled` returns what it has set.

        Raises:
            ConfigError: an option does not fit the examples.
        """

    def settle(self, examples: Sequence[Any], encoded: Encoded) -> None:
        """Set the options that depend on the training `examples`, such as class weights.

        Raises:
            ConfigError: an option does not fit the examples.
        """

    def settled(self) -> dict[str, Any]:
        """Return the options of the configuration that `study` and `settle` have set, with their values."""
        return {}

    def makes_inputs_of(self, other: Task) -> bool:
        """Return whether the same tokens become the same inputs as in `other`, the task of another run."""
        return True

    def in_own_units(self, logits: Any, other: Task) -> Any:
        """Return `logits` of a run of `other`, a task of the same class, in the units of this one.

        Both are a tensor, or an array.
        """
        return logits

    def labels_read(self, examples: Sequence[Any]) -> int:
        """Return how many labels of the training `examples` are read beside the loss, even if nothing is trained."""
        return len(examples) if self.fits_head else 0

    def facts(self) -> dict[str, Any]:
        """Return what the record says of the task's own doing, in a section of its name; empty: nothing."""
        return {}
