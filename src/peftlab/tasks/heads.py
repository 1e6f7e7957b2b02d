"""The heads that transformers has for tasks, and what the libraries around it call them."""

from __future__ import annotations

from typing import NamedTuple


class Head(NamedTuple):
    """A kind of head on a pretrained model."""

    model: str
    """The class of transformers that loads a model with it."""
    task_type: str
    """In the peft library's terms."""
    pipeline: str
    """In the terms of transformers' pipelines and of the hub."""
    problem_type: str | None = None
    """In the terms of transformers' configurations, which decide what its pipelines make of the logits."""


TOKEN_CLASSIFICATION = Head("AutoModelForTokenClassification", "TOKEN_CLS", "token-classification")
SEQUENCE_CLASSIFICATION = Head(
    "AutoModelForSequenceClassification", "SEQ_CLS", "text-classification", "single_label_classification"
)
