"""Forgetting beside gain: the perplexity of general text before a training, and with its best checkpoint."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from peftlab.data.batching import in_order_of_length
from peftlab.data.encoding import encode
from peftlab.data.module import DataModule, listed
from peftlab.data.plain_texts import PlainTexts
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import file_sha256
from peftlab.tasks.general_text import MeasuresForgetting
from peftlab.training.scoring import is_last_validation
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")


class Forgetting(Callback):
    """Measures how well the model still predicts text that it is not trained on.

    The record's section ``forgetting`` has the digest of the text, the number of its tokens, and their perplexity
    ``before`` the first step, with the method in its initial state, and ``after``, with the best checkpoint. It is of
    the beginnings of longer texts alone; what they lose is told, and stands in ``lost``.

    Args:
        path: a file of plain text in UTF-8.
        data: the data of the run, of a task that measures forgetting; the text is encoded as its `general_task` says.
        record: its record.

    Raises:
        DataError: the file cannot be read, or has no text.
    """

    def __init__(self, path: Path, data: DataModule, record: RunRecord) -> None:
        self.data, self.record = data, record
        assert isinstance(data.task, MeasuresForgetting)
        self.task = task = data.task.general_task
        assert isinstance(task, MeasuresForgetting)
        format = PlainTexts(unit="paragraph", characters=data.task.general_characters)
        self.texts = list(map(task.general, format.read({"general": path})["general"]))
        self.encoded = encode(task, self.texts, data.processor, data.spec.limits)
        tokens = int(task.weights(self.texts, self.encoded, range(len(self.texts))).sum())
        record.extend("forgetting", {"text_sha256": file_sha256(path), "tokens": tokens})
        if lost := {name: count for name, count in task.all_lost(self.encoded).items() if count}:
            log.info("left out of the general text (data.max_tokens=%d): %s", data.spec.max_tokens, listed(lost))
            record.extend("forgetting", {"lost": lost})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure before the first step."""
        if not trainer.global_step:
            pl_module.eval()
            self._measure("before", trainer, pl_module)
            pl_module.train()

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the best checkpoint, where it is not tested.

        The weights are then those that are validated; when callbacks are told that a validation starts, not yet.
        """
        if not self.data.budget.test and is_last_validation(trainer):
            self._measure("after", trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the best checkpoint."""
        self._measure("after", trainer, pl_module)

    def _measure(self, when: str, trainer: L.Trainer, tuner: L.LightningModule) -> None:
        assert isinstance(tuner, Tuner)
        task, total, weight = self.task, 0.0, 0.0
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for indices in in_order_of_length(self.encoded.lengths, self.data.spec.eval_batch_size):
                batch = task.collate(self.texts, self.encoded, indices).to(tuner.device)
                total += float(task.losses(task.outputs(tuner.model, batch), batch).double().sum())
                weight += float(batch.weights.sum())
        perplexity = math.exp(min(total / max(weight, 1), 80.0))
        self.record.extend("forgetting", {when: perplexity})
        if trainer.is_global_zero:
            self.record.write()
        log.info("general text: perplexity %.4f %s the training", perplexity, when)
