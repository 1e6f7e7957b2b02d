"""Base of tasks with a fixed set of labels: label smoothing, class weights, and the probabilities of all labels."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from torch import Tensor

from peftlab.tasks.losses.class_weights import ClassWeights, counted, settled
from peftlab.tasks.losses.on_device import on_device
from peftlab.tasks.task import Encoded, Task, spec

log = logging.getLogger("peftlab")


@spec
class LabelledTask(Task):
    """A task whose head has one output per label."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target's probability that is spread over all labels (Szegedy et al. 2016)."""
    class_weights: ClassWeights | None = None
    """The weight of each label's examples in the loss, 1 by default; ``balanced``: the same total weight for every
    label over the training examples; ``effective_number`` or ``effective_number:BETA``: between balanced and equal, see
    `peftlab.tasks.losses.class_weights.effective_number`. None: no weights."""
    top_k: int | None = Field(default=None, ge=1)
    """Number of labels, the most probable ones, whose probabilities a run keeps; None: all."""

    def settle(self, examples: Sequence[Any], encoded: Encoded) -> None:
        """Complete `class_weights`, if set, to a weight for every label.

        Raises:
            ConfigError: a key is not a label.
        """
        if self.class_weights is None:
            return
        if isinstance(self.class_weights, str):
            weights = counted(self.class_weights, self.label_counts(examples, encoded), self.labels)
        else:
            weights = settled(self.class_weights, self.labels, self.label_names)
        if len(set(weights.values())) == 1:
            log.info("task.class_weights: all labels have the same weight, as they have without it")
        self.class_weights = weights

    def settled(self) -> dict[str, Any]:
        """Return the class weights."""
        return {} if self.class_weights is None else {"class_weights": self.class_weights}

    @property
    def label_names(self) -> dict[str, list[str]]:
        """The labels behind each name a user may write: each label by itself; a task may add names for several."""
        return {label: [label] for label in self.labels}

    @abstractmethod
    def label_counts(self, examples: Sequence[Any], encoded: Encoded) -> Mapping[str, int]:
        """Return how often each label contributes to the loss of `examples`."""

    def weight_of(self, label: str) -> float:
        """Return the weight of one example of `label` in the loss: the integer 1 without class weights."""
        assert not isinstance(self.class_weights, str), "the weights are settled before training"
        return 1 if self.class_weights is None else self.class_weights[label]

    def label_weights(self, like: Tensor) -> Tensor | None:
        """Return the weights in the order of the labels, shape (labels,), on the device of `like`; None: no weights."""
        if self.class_weights is None:
            return None
        return on_device(tuple(self.weight_of(label) for label in self.labels), like.device)

    def kept(self, example: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a final answer with ``probabilities`` by label, of all labels or the `top_k` most probable ones."""
        return super().kept(example, {**answer, "probabilities": self._by_label(answer["probabilities"])})

    def _by_label(self, probabilities: Sequence[Any] | None) -> Any:
        """Return probabilities by label, with the seven digits that fp32 holds; for a list of lists, one dict each.

        They are in the order of the labels, or with `top_k`, the most probable one first.
        """
        if probabilities is None:
            return None
        if not probabilities or not isinstance(probabilities[0], float):
            return [self._by_label(one) for one in probabilities]
        places: Sequence[int] = range(len(self.labels))
        if self.top_k is not None and self.top_k < len(self.labels):
            places = sorted(places, key=lambda place: -probabilities[place])[: self.top_k]
        return {self.labels[place]: float(f"{probabilities[place]:.7g}") for place in places}
