"""Lets a task learn its decisions from the answers of the best checkpoint."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import lightning as L

from peftlab.devices.processes import from_rank_0, rank
from peftlab.runs.folder import each_prediction
from peftlab.storage.atomic import replacing
from peftlab.tasks.outputs.kept_answers import Decisions
from peftlab.tasks.outputs.metric import ScorerMetric
from peftlab.tasks.task import Task
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")


def decide(trainer: L.Trainer, tuner: Tuner, predictions: Path) -> Decisions:
    """Let the task learn its decisions, give the answers to the validation split by them, and score these.

    Rank 0 reads the answers from their file and writes them again; every rank must call this.

    Args:
        trainer: has validated the best checkpoint.
        tuner: the model, whose scores on the validation split become those of the decided answers.
        predictions: the file of the answers to the validation split.

    Returns:
        the decisions, which the task now answers by.
    """
    task, metric = tuner.task, tuner.metric("validation")
    metric.reset()
    task.decisions = from_rank_0(_decided(task, predictions, metric) if rank() == 0 else {})
    scores = {f"validation/{name}": value for name, value in task.scorer.scores(metric.total()).items()}
    for logger in trainer.loggers:
        logger.log_metrics(scores, step=trainer.global_step)
    log.info("decided on the validation split: %s", json.dumps(task.decisions, ensure_ascii=False))
    return task.decisions


def _decided(task: Task, file: Path, metric: ScorerMetric) -> Decisions:
    """Return the decisions; write the answers of a file to it as they are under them, and count these."""
    decisions = task.decide(each_prediction(file))

    def lines() -> Iterator[bytes]:
        for answer in each_prediction(file):
            other = task.decided(answer, decisions)
            metric.update([other])
            yield json.dumps(other, ensure_ascii=False).encode() + b"\n"

    with replacing(file, file.stat().st_size) as temporary, temporary.open("wb") as written:
        written.writelines(lines())
    return decisions
