"""Integrated gradients of the input embeddings (Sundararajan, Taly and Yan 2017)."""

from __future__ import annotations

import numpy as np
import torch

from peftlab.errors import UserError
from peftlab.use.explanation.attribution import Attribution, Settings
from peftlab.use.explanation.subject import Subject

COMPLETE = 0.01
"""The largest gap, as a share of the difference that the values should sum to, that counts as complete."""

_MOST = 8
"""How many times the steps may be multiplied."""


def explain(subject: Subject, settings: Settings) -> Attribution:
    """Return the integrated gradients of each word, summed over its tokens and their embeddings.

    The path runs in a straight line from the baseline to the embeddings of the row (equation 1), and is integrated by
    the midpoint rule. Special tokens do not move along it. The values sum to the difference of the logits at its ends
    (completeness, proposition 1) but for the gap that the steps leave.

    Raises:
        UserError: the model has no input embeddings to differentiate.
    """
    expected, steps = subject.full - subject.empty, settings.steps
    while True:
        of_tokens = integrated(subject, steps)
        gap = float(of_tokens.sum() - expected)
        if abs(gap) <= COMPLETE * abs(expected) or steps >= _MOST * settings.steps:
            break
        steps *= 2
    values = np.asarray([of_tokens[list(word.positions)].sum() for word in subject.words])
    return Attribution(values, gap=gap, details={"steps": steps})


def integrated(subject: Subject, steps: int) -> np.ndarray:
    """Return the integrated gradients of each token, doubles of shape (tokens,).

    Raises:
        UserError: the model has no input embeddings to differentiate.
    """
    if subject.embedded is None:
        name = type(subject.predictor.model).__name__
        raise UserError(f"ig: {name} has no one table of input embeddings; take --how occlusion or shapley")
    own, other = subject.embedded
    change = (own - other).float()
    total = torch.zeros_like(change)
    middles = (torch.arange(steps, device=change.device) + 0.5) / steps
    for some in torch.split(middles, subject.predictor.batch_size):
        path = (other + some[:, None, None] * change).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(subject.scores(path).sum(), path)
        total += gradient.float().sum(0)
    return np.asarray((total * change / steps).sum(-1)[0].double().cpu())
