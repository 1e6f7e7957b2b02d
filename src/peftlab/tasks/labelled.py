"""What tasks with a fixed set of labels have in common: smoothing, weights, and the probabilities of all labels."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from peftlab.tasks.class_weights import ClassWeights, balanced, settled
from peftlab.tasks.task import Encoded, Task, spec

log = logging.getLogger("peftlab")


@spec
class LabelledTask(Task):
    """A task whose head gives one number for each label."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target's probability that is spread over all labels (Szegedy et al. 2016)."""
    class_weights: ClassWeights | None = None
    """What an example of each label counts for in the loss, 1 where nothing is said; ``balanced``: all labels together
    count alike, over what is trained on. None: all examples count alike."""
    top_k: int | None = Field(default=None, ge=1)
    """Of how many labels, the most probable ones, a run keeps the probabilities; None: of all."""

    def settle(self, examples: Sequence[Any], encoded: Encoded) -> None:
        """Give `class_weights`, where there are any, a weight for every label.

        Raises:
            ConfigError: a key is no label.
        """
        if self.class_weights is None:
            return
        if self.class_weights == "balanced":
            weights = balanced(self.label_counts(examples, encoded), self.labels)
        else:
            weights = settled(self.class_weights, self.labels, self.label_names)
        if len(set(weights.values())) == 1:
            log.info("task.class_weights: all labels have the same weight, as they have without it")
        self.class_weights = weights

    def settled(self) -> dict[str, Any]:
        """Return the weights."""
        return {} if self.class_weights is None else {"class_weights": self.class_weights}

    @property
    def label_names(self) -> dict[str, list[str]]:
        """What a user may call labels by: each label by itself; a task may have names for several together."""
        return {label: [label] for label in self.labels}

    @abstractmethod
    def label_counts(self, examples: Sequence[Any], encoded: Encoded) -> Mapping[str, int]:
        """Return how often each label has a part in the loss of `examples`."""

    def weight_of(self, label: str) -> float:
        """Return what one example of `label` counts for in the loss: the integer 1 where there are no weights."""
        assert self.class_weights != "balanced", "the weights are settled before anything is trained"
        return 1 if self.class_weights is None else self.class_weights[label]

    def label_weights(self, like: Tensor) -> Tensor | None:
        """Return the weights in the order of the labels, shape (labels,), on the device of `like`; None: no weights."""
        if self.class_weights is None:
            return None
        weights = [self.weight_of(label) for label in self.labels]
        return torch.tensor(weights, dtype=torch.float32, device=like.device)

    def kept(self, example: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a final answer with its ``probabilities`` by label, or those of the `top_k` most probable ones."""
        return super().kept(example, {**answer, "probabilities": self._by_label(answer["probabilities"])})

    def _by_label(self, probabilities: Sequence[Any] | None) -> Any:
        """Return a list of probabilities by label, with the seven digits that fp32 holds; of a list of lists, each.

        They come in the order of the labels; of the `top_k`, the most probable one first.
        """
        if probabilities is None:
            return None
        if not probabilities or not isinstance(probabilities[0], float):
            return [self._by_label(one) for one in probabilities]
        places: Sequence[int] = range(len(self.labels))
        if self.top_k is not None and self.top_k < len(self.labels):
            places = sorted(places, key=lambda place: -probabilities[place])[: self.top_k]
        return {self.labels[place]: float(f"{probabilities[place]:.7g}") for place in places}
