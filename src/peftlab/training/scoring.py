"""The LightningModule's half that scores a model on validation and test."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import Tensor, nn

from peftlab.scores.scorer import SCORED
from peftlab.tasks.batch import Batch
from peftlab.tasks.outputs.metric import ScorerMetric
from peftlab.tasks.task import Task
from peftlab.training.evaluation import Evaluation
from peftlab.training.guards import Guards
from peftlab.training.objective import evaluated


class Scoring(L.LightningModule):
    """Scores `model` at `task`, and logs the loss and every score as ``validation/...`` and ``test/...``."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.evaluations = nn.ModuleDict({split: Evaluation(task) for split in SCORED})
        self.guards = Guards()

    def forward(self, batch: Batch) -> Any:
        """Return the model's outputs for `batch`, a transformers `ModelOutput`."""
        return self.task.outputs(self.model, batch)

    def evaluation(self, split: str) -> Evaluation:
        """Return the evaluation of ``validation`` or ``test``."""
        evaluation = self.evaluations[split]
        assert isinstance(evaluation, Evaluation)
        return evaluation

    def metric(self, split: str) -> ScorerMetric:
        """Return the scores of ``validation`` or ``test``."""
        return self.evaluation(split).metric

    def validation_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions for one batch, and add them to the scores."""
        return self._evaluate(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions for one batch, and add them to the scores."""
        return self._evaluate(batch, "test")

    def on_validation_epoch_start(self) -> None:
        """Reset the scores."""
        self.evaluation("validation").reset()

    def on_test_epoch_start(self) -> None:
        """Reset the scores."""
        self.evaluation("test").reset()

    def on_validation_epoch_end(self) -> None:
        """Log the scores over the whole split."""
        self._log_scores("validation")

    def on_test_epoch_end(self) -> None:
        """Log the scores over the whole split."""
        self._log_scores("test")

    def _evaluate(self, batch: Batch, split: str) -> list[dict[str, Any]]:
        return self.evaluation(split).take(batch, self.guards.evaluation, self._predict)

    def _predict(self, batch: Batch) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the loss of `batch` and its predictions; a filler has none."""
        batch = batch.to(self.device)
        outputs = self(batch)
        answers: list[dict[str, Any]] = []
        if batch.examples:
            final = is_last_validation(self.trainer)
            answers = self.task.answers(outputs, batch, self.model, final)
            if final:
                answers = [self.task.kept(*both) for both in zip(batch.examples, answers, strict=True)]
        return evaluated(self.task, outputs, batch), answers

    def _log_scores(self, split: str) -> None:
        self.log_dict({f"{split}/{name}": value for name, value in self.evaluation(split).values().items()})


def is_last_validation(trainer: L.Trainer) -> bool:
    """Return whether this evaluation comes after training, or after the last step of the budget."""
    return trainer.state.fn != "fit" or trainer.global_step == trainer.estimated_stepping_batches
