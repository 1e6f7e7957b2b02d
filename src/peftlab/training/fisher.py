"""The diagonal of the Fisher information of a model's trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Encoded, Task


def fisher(
    model: nn.Module, task: Task, examples: Sequence[Any], encoded: Encoded, chosen: Sequence[int], seed: int = 0
) -> dict[str, Tensor]:
    """Return the mean over examples of the squared gradient of each example's log-likelihood, by name of the weight.

    The labels are drawn from the model's own distribution (Kunstner et al. 2019, section 2): gold ones would give the
    "empirical Fisher", which vanishes where the model fits, and the square of a batch's mean gradient would be too
    small by the size of the batch. The likelihood of an example is that of all its labels, such as those of its tokens.

    Args:
        model: in evaluation mode and fp32; its trainable weights are those that are looked at.
        task: whose `Task.distributions` the labels are drawn from.
        examples: a split.
        encoded: the same examples, encoded.
        chosen: the positions of the examples to average over.
        seed: fixes the labels, together with the position of the example.

    Raises:
        ConfigError: the task predicts no distributions.
    """
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    device = next(iter(weights.values())).device
    for place in chosen:
        batch = task.apart(examples, encoded, [place]).to(device)
        likelihood = _of_drawn_labels(model, task, batch, np.random.default_rng((seed, place)))
        gradients = torch.autograd.grad(likelihood, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient**2
    return {name: of_weight / len(chosen) for name, of_weight in total.items()}


def _of_drawn_labels(model: nn.Module, task: Task, batch: Batch, random: np.random.Generator) -> Tensor:
    """Return the log-likelihood, a scalar, of labels drawn from the model's distribution for the one example."""
    predicted = task.distributions(task.outputs(model, batch), batch)
    log_p = predicted.logits.log_softmax(-1).flatten(0, -2)
    uniform = torch.from_numpy(random.random(len(log_p))).to(log_p)
    classes = log_p.shape[-1]
    drawn = (log_p.detach().exp().cumsum(-1) < uniform.unsqueeze(-1)).sum(-1).clamp(max=classes - 1)
    counted = (predicted.weights > 0).flatten()
    return (log_p.gather(-1, drawn.unsqueeze(-1)).squeeze(-1) * counted).sum()
