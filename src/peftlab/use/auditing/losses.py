"""The loss of each example under a finished run's model, in fp32 and evaluation mode."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun


def losses_of(run: FinishedRun, examples: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean loss of the weighted parts of each example, such as its tokens, and its number of tokens.

    Returns:
        doubles, both of shape (examples,); the loss of an example without weight is nan.
    """
    by = run.predictor.in_fp32()
    task = copy(by.task)
    if hasattr(task, "label_smoothing"):  # with it, a surer answer may have a larger loss
        vars(task)["label_smoothing"] = 0.0
    encoded = by.compared(examples, by.task.encode(examples, by.processor, by.limits))
    losses = np.full(len(examples), np.nan)
    with torch.inference_mode(), by.arithmetic():
        for indices, batch in by.batches(examples, encoded):
            outputs = task.outputs(by.model, batch)
            of_each = task.losses(outputs, batch).double().cpu().numpy()
            weights = batch.weights.double().cpu().numpy()
            losses[indices] = np.divide(of_each, weights, out=np.full(len(weights), np.nan), where=weights > 0)
    return losses, encoded.tokens.astype(np.float64)
