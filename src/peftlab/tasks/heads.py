"""The heads that transformers has for tasks, and what the libraries around it call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor

Outputs = Literal["text", "token", "span", "vocabulary"]
"""What a head gives numbers for: a whole text or picture, each token, each token as the start or the end of a span, or
each token over the vocabulary."""


class Head(NamedTuple):
    """A kind of head on a pretrained model."""

    model: str
    """The class of transformers that loads a model with it."""
    task_type: str | None
    """In the peft library's terms; None where it has none, as for pictures."""
    pipeline: str
    """In the terms of transformers' pipelines and of the hub."""
    outputs: Outputs = "text"
    """What it gives numbers for."""
    problem_type: str | None = None
    """In the terms of transformers' configurations, which decide what its pipelines make of the logits."""
    size: int | None = None
    """How many numbers, where they are not those of the task's labels: 1 of a regression, 2 of a span."""

    @property
    def is_new(self) -> bool:
        """Whether its weights begin anew and every method trains them; a language model's head is pretrained."""
        return self.outputs != "vocabulary"

    def settings(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return what the head sets in the model's configuration for a task with these labels."""
        if not self.is_new:
            return {}
        settings: dict[str, Any] = {"num_labels": self.size or len(labels), "problem_type": self.problem_type}
        if labels:
            settings["id2label"] = dict(enumerate(labels))
            settings["label2id"] = {label: n for n, label in enumerate(labels)}
        return settings


TOKEN_CLASSIFICATION = Head("AutoModelForTokenClassification", "TOKEN_CLS", "token-classification", "token")
SEQUENCE_CLASSIFICATION = Head(
    "AutoModelForSequenceClassification",
    "SEQ_CLS",
    "text-classification",
    problem_type="single_label_classification",
)


def logits_of(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return by name what a model's heads give, such as ``logits``, or ``start_logits`` and ``end_logits``."""
    return {name: value for name, value in outputs.items() if name.endswith("logits") and isinstance(value, Tensor)}
