"""What an ensemble learns on the validation split: the weights of its members, and its temperature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from peftlab.tasks.batch import Batch
from peftlab.tasks.outputs.mixing import Members
from peftlab.tasks.task import Task

_STEPS, _GAIN = 2000, 1e-12
"""The most steps for the weights, and the gain in log likelihood below which they have converged."""
_COOLEST, _HOTTEST = 0.05, 20.0
"""The limits of a temperature: without a wrong answer, it would fall for ever."""


class Decisions(NamedTuple):
    """Predicted distributions, and what is true; only of decisions that have gold."""

    logits: np.ndarray
    """Shape (decisions, classes), in double precision."""
    gold: np.ndarray
    """The true class of each, shape (decisions,)."""

    @property
    def log_likelihoods(self) -> np.ndarray:
        """The log probability of the true class of each, shape (decisions,)."""
        return self.at(1.0)

    def at(self, temperature: float) -> np.ndarray:
        """Return the log probability of the true classes with the logits divided by a temperature."""
        logits = self.logits / temperature
        logits = logits - logits.max(-1, keepdims=True)
        taken = np.take_along_axis(logits, self.gold[:, None], -1)[:, 0]
        return taken - np.log(np.exp(logits).sum(-1))


def predicts_numbers(task: Task) -> bool:
    """Return whether the outputs of a task are numbers, not scores of something that is chosen."""
    return task.head.problem_type == "regression" and type(task).distributions is Task.distributions


def unfitted(task: Task) -> str | None:
    """Return why nothing can be fitted to the distributions of a task; None: it can."""
    if predicts_numbers(task):
        return "it predicts numbers, which have no probability"
    if task.head.problem_type != "multi_label_classification" and type(task).distributions is Task.distributions:
        return "it predicts no distributions"
    return None


def decisions(task: Task, outputs: Any, batch: Batch) -> Decisions:
    """Return the distributions in the outputs of a model that have gold; each label of several is one."""
    if task.head.problem_type == "multi_label_classification":
        positive = outputs.logits.float()
        logits, gold = torch.stack([torch.zeros_like(positive), positive], -1), batch.targets["labels"].long()
        counts = (batch.weights > 0).unsqueeze(-1).expand_as(gold)
    else:
        logits, gold, weights = (getattr(task.distributions(outputs, batch), name) for name in _FIELDS)
        counts = weights > 0
    return Decisions(logits[counts].double().cpu().numpy(), gold[counts].cpu().numpy())


_FIELDS = ("logits", "gold", "weights")


def best_weights(log_likelihoods: np.ndarray) -> list[float]:
    """Return the weights of a mixture with the largest likelihood, by expectation maximisation.

    The likelihood is concave in them, so that it has no other maximum (Dempster, Laird & Rubin 1977; Redner & Walker
    1984, section 4).

    Args:
        log_likelihoods: the log probability that each model gives the truth, shape (models, decisions).
    """
    number = len(log_likelihoods)
    weights = np.full(number, 1 / number)
    likelihoods = np.exp(log_likelihoods - log_likelihoods.max(0))
    before = -np.inf
    for _ in range(_STEPS):
        joint = weights[:, None] * likelihoods
        whole = joint.sum(0)
        if (now := float(np.log(whole).mean())) - before < _GAIN:
            break
        before = now
        weights = (joint / whole).mean(1)
    return _shares(weights)


def least_squares(predicted: np.ndarray, gold: np.ndarray) -> list[float]:
    """Return the weights, none below 0 and with the sum 1, whose mean of predictions has the least squared error.

    Args:
        predicted: shape (models, examples).
        gold: shape (examples,).
    """
    from scipy.optimize import nnls

    heavy = 1e4 * max(1.0, float(np.abs(predicted).max())) * np.sqrt(len(gold))  # the row that makes the sum 1
    weights, _ = nnls(np.vstack([predicted.T, np.full(len(predicted), heavy)]), np.append(gold, heavy))
    return _shares(weights)


def best_temperature(parts: Sequence[Decisions]) -> float:
    """Return the temperature with the largest likelihood (Guo et al. 2017, section 4.2), between 0.05 and 20.

    The likelihood is concave in its inverse.
    """
    from scipy.optimize import minimize_scalar

    def loss(inverse: float) -> float:
        return -float(sum(part.at(1 / inverse).sum() for part in parts))

    inverse = minimize_scalar(loss, bounds=(1 / _HOTTEST, 1 / _COOLEST), method="bounded", options={"xatol": 1e-6}).x
    return float(f"{1 / inverse:.6g}")


def fitted_weights(model: Members, task: Task, batches: Iterable[Batch]) -> list[float]:
    """Return the weights of the members that are best on `batches`."""
    of_batches, golds = list[np.ndarray](), list[np.ndarray]()
    for batch in batches:
        each = task.outputs_of_each(model, batch)
        if predicts_numbers(task):
            counts = batch.weights > 0
            of_batches.append(np.stack([_numbers(outputs.logits.squeeze(-1)[counts]) for outputs in each]))
            golds.append(_numbers(batch.targets["labels"][counts]))
        else:
            of_batches.append(np.stack([decisions(task, outputs, batch).log_likelihoods for outputs in each]))
    whole = np.concatenate(of_batches, 1)
    return least_squares(whole, np.concatenate(golds)) if golds else best_weights(whole)


def fitted_temperature(model: Members, task: Task, batches: Iterable[Batch]) -> float:
    """Return the temperature of the mixture that is best on `batches`."""
    return best_temperature([decisions(task, task.outputs(model, batch), batch) for batch in batches])


def _shares(weights: np.ndarray) -> list[float]:
    """Return `weights` divided by their sum, with as many digits as another number of threads leaves the same."""
    return [float(f"{weight:.6g}") for weight in weights / weights.sum()]


def _numbers(tensor: Tensor) -> np.ndarray:
    numbers: np.ndarray = tensor.double().cpu().numpy()
    return numbers
