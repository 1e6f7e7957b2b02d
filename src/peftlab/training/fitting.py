"""Fits the head of a task to the training split, where it is not learnt by gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from peftlab.data.module import DataModule
from peftlab.tasks.batch import Batch, Part
from peftlab.training.scoring import Scoring


@torch.no_grad()
def fit_head(scoring: Scoring, data: DataModule) -> None:
    """Let the task of `scoring` fit its head to the training split, see `MayFitHead.fit_head`.

    The examples are read as those of an evaluation are: unchanged, in batches that do not depend on the number of
    devices, each of which computes all of them.
    """
    parts = (Part(batch, batch) for batch in data.evaluation_batches("train"))
    batches = (data.training_part(part) for part in parts)
    scoring.task.fit_head(scoring.model, (pair for batch in batches for pair in _seen(scoring, batch)))


def _seen(scoring: Scoring, batch: Batch) -> Iterator[tuple[Any, Batch]]:
    """Yield a batch, in pieces where it does not fit in memory, with the model's outputs."""
    pieces, autocast = scoring.guards.evaluation, scoring.trainer.precision_plugin.forward_context

    def compute(piece: Batch) -> tuple[Any, Batch]:
        piece = piece.to(scoring.device)
        with autocast():
            return scoring(piece), piece

    for piece in pieces.pieces(batch):
        done = pieces.attempt(compute, piece)
        if done is None:
            yield from _seen(scoring, piece)
        else:
            yield done[0]
