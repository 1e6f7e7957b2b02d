"""Score the model that a run ends with, and let its task decide before that."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import lightning as L

from peftlab.data.module import DataModule
from peftlab.devices.processes import rank
from peftlab.runs.decisions import SECTION
from peftlab.runs.folder import RunFolder, each_prediction
from peftlab.tasks.outputs.optimism import optimism
from peftlab.terminal.console import VERBATIM
from peftlab.training.deciding import decide
from peftlab.training.tracking import log_tables
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")


def evaluate(
    trainer: L.Trainer,
    tuner: Tuner,
    data: DataModule,
    folder: RunFolder,
    validated: bool = False,
    logged: bool = False,
) -> None:
    """Score the current model on validation and test, for the record and the log; before that, let the task decide.

    Args:
        validated: whether the last validation was of this very model, so that it is not repeated.
        logged: whether the loggers have the scores of a validation of this very model, which may have been made
            before the run was resumed.
    """
    task, record, decisions = tuner.task, folder.record, {}
    if not validated:
        with _without_loggers(trainer) if logged else nullcontext():
            trainer.validate(tuner, data, verbose=False)
    if task.decides:
        decisions["learnt"] = decide(trainer, tuner, folder.predictions / "validation.jsonl")
    for split in data.budget.scored:
        scores = score(trainer, tuner, data, split, evaluated=split == "validation")
        record.add_metrics(scores, split, "best", task.scorer.name)
    if task.decides and rank() == 0:
        test = partial(each_prediction, folder.predictions / "test.jsonl")
        decisions["optimism"] = optimism(task, test) if data.budget.test else {}
        record.extend(SECTION, decisions)


def score(trainer: L.Trainer, tuner: Tuner, data: DataModule, split: str, evaluated: bool = False) -> dict[str, float]:
    """Return the scores and the loss of the current model on ``validation`` or ``test``, and log them as a table.

    With `evaluated`, the last evaluation of `trainer` was of this model and split.
    """
    if not evaluated:
        evaluation = {"validation": trainer.validate, "test": trainer.test}[split]
        evaluation(tuner, data, verbose=False)
    scorer, metric = tuner.task.scorer, tuner.metric(split)
    total = metric.total()
    log_tables(trainer.loggers, split, scorer.tables(total))
    log.info("\n%s, best checkpoint (%s)\n%s\n", split, scorer.name, scorer.report(total), extra=VERBATIM)
    return metric.details() | {"loss": float(trainer.callback_metrics[f"{split}/loss"])}


@contextmanager
def _without_loggers(trainer: L.Trainer) -> Iterator[None]:
    loggers, trainer.loggers = trainer.loggers, []
    try:
        yield
    finally:
        trainer.loggers = loggers
