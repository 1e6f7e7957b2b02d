"""The distributions over classes that a model predicts, whatever they are distributions for: texts, words or labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from peftlab.tasks.batch import Batch
from peftlab.tasks.multilabel import MultiLabel
from peftlab.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Predicted:
    """The distributions of a batch that count in the loss, in the order of its examples."""

    logits: Tensor
    """Shape (distributions, classes), in fp32."""
    gold: Tensor
    """The gold class of each, shape (distributions,)."""
    weights: Tensor
    """The weight of each in the loss, shape (distributions,)."""
    owners: Tensor
    """The example of each, shape (distributions,)."""


def predicts_classes(task: Task) -> bool:
    """Return whether `predicted` takes the outputs of a task."""
    return isinstance(task, MultiLabel) or type(task).distributions is not Task.distributions


def classes_of(task: Task) -> list[str]:
    """Return the classes of the distributions; each label of several is absent or present."""
    if isinstance(task, MultiLabel):
        return ["absent", "present"]
    return list(task.labels) if predicts_classes(task) else []


def predicted(task: Task, outputs: ModelOutput, batch: Batch) -> Predicted:
    """Return the distributions in a model's outputs for a batch."""
    if isinstance(task, MultiLabel):
        of_labels = outputs.logits.float()
        logits = torch.stack([torch.zeros_like(of_labels), of_labels], -1)
        gold = batch.targets["labels"].long()
        weights = (batch.weights.float() / of_labels.shape[1]).unsqueeze(1).expand(of_labels.shape)
    else:
        own = task.distributions(outputs, batch)
        logits, gold, weights = own.logits, own.gold, own.weights
    counted = weights > 0
    rows = counted.nonzero()[:, 0]
    return Predicted(logits[counted], gold[counted], weights[counted], batch.rows[rows])


def divergence(targets: Tensor, logits: Tensor) -> Tensor:
    """Return KL(targets || softmax(logits)) of distributions, (distributions, classes), shape (distributions,).

    For a single class with all the probability, it is the cross-entropy.
    """
    return (torch.xlogy(targets, targets) - targets * logits.log_softmax(-1)).sum(-1)


def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """Return the distributions whose logits are divided by the temperature; at 0, the most probable class has all."""
    if temperature == 0:
        return torch.nn.functional.one_hot(probabilities.argmax(-1), probabilities.shape[-1]).to(probabilities.dtype)
    return (probabilities.log() / temperature).softmax(-1)
