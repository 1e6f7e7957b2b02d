"""The one torchmetrics class: it sums a scorer's counts over batches and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from peftlab.scores.scorer import Scorer


class ScorerMetric(Metric):  # type: ignore[misc]  # mypy does not follow torchmetrics
    """Computes the scores of `scorer` over all updates on all processes."""

    is_differentiable = False
    full_state_update = False

    counts: Tensor
    kept: list[Tensor] | Tensor
    """The numbers of each answer that some scores need besides the counts, flattened; each rank has at least one
    tensor, for torchmetrics would take another type for none. Gathered from all ranks, they are one tensor."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.add_state("counts", torch.from_numpy(scorer.total([])), dist_reduce_fx="sum")
        if scorer.columns:
            self.add_state("kept", [], dist_reduce_fx="cat")
            self.reset()

    def reset(self) -> None:
        """Forget all answers."""
        super().reset()
        if self.scorer.columns:
            self.kept = [torch.zeros(0, dtype=torch.float64, device=self.counts.device)]

    def update(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Count `answers`, in one transfer to the device.

        Raises:
            ValueError: an answer cannot be scored; then none is counted.
        """
        self.counts = self.counts + torch.from_numpy(self.scorer.total(answers)).to(self.counts.device)
        if self.scorer.columns:
            numbers = [number for answer in answers for number in self.scorer.values(answer)]
            assert isinstance(self.kept, list), "only what is gathered is one tensor"
            self.kept.append(torch.tensor(numbers, dtype=torch.float64, device=self.counts.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the overall scores, float32 scalars."""
        # explicitly float32: the default dtype is bfloat16 inside a bf16-true step
        scores = self.scorer.scores(self.counts.cpu().numpy()).items()
        return {name: torch.tensor(value, dtype=torch.float32, device=self.counts.device) for name, value in scores}

    def total(self) -> np.ndarray:
        """Return the counts summed over all processes, shape (width,); like `compute`, all processes must call it."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            total: np.ndarray = self.counts.cpu().numpy()
        return total

    def details(self) -> dict[str, float]:
        """Return all scores over all processes, with the finer ones; like `compute`, all processes must call it."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            scores = self.scorer.details(self.counts.cpu().numpy())
            if self.scorer.columns:
                numbers = [self.kept] if isinstance(self.kept, Tensor) else self.kept  # one tensor where ranks differ
                scores |= self.scorer.of_all(torch.cat(numbers).cpu().numpy().reshape(-1, self.scorer.columns))
        return scores
