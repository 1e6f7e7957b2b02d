"""Proves, on a run's own examples and before its first step, that rows shared by examples change nothing."""

from __future__ import annotations

import logging

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from peftlab.data.module import DataModule
from peftlab.errors import ConfigError
from peftlab.runs.record import RunRecord
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

EXAMPLES = 8
"""Examples that are compared, of all lengths."""
EXACT, ROUGH = 1e-4, 5e-2
"""How far apart losses may be, a token: in fp32, and in less. Pretrained models that see neighbours are off by 0.1."""


class SharedRows(Callback):
    """Compares the losses of examples that share rows with those of rows of their own, see `Task.packs`.

    The model, with its method, computes in the precision and with the attention of the run, without dropout. The
    record's section ``shared_rows`` has the number of examples and rows, and how far apart their losses are, a token.

    Args:
        data: the data of the run.
        record: its record.
        exact: whether it computes in fp32 throughout.
    """

    def __init__(self, data: DataModule, record: RunRecord, exact: bool) -> None:
        self.data, self.record, self.exact = data, record, exact

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare them before the first step.

        Raises:
            ConfigError: they differ: the model does not keep examples in a row apart.
        """
        assert isinstance(pl_module, Tuner)
        if trainer.global_step:
            return
        members, task = self.data.splits["train"], self.data.task
        order = np.argsort(members.encoded.lengths, kind="stable")
        places = np.linspace(0, len(order) - 1, min(EXAMPLES, self.data.spec.batch_size, len(order))).round()
        chosen = [int(order[int(place)]) for place in np.unique(places)]
        means, rows = [], []
        pl_module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for collate in (task.collate, task.apart):
                batch = collate(members.examples, members.encoded, chosen).to(pl_module.device)
                losses = task.losses(pl_module(batch), batch).double()
                means.append(losses / batch.weights.clamp(min=1))
                rows.append(len(batch.rows))
        pl_module.train()
        apart = float((means[0] - means[1]).abs().max())
        self.record.extend("shared_rows", {"examples": len(chosen), "rows": rows[0], "largest_difference": apart})
        if trainer.is_global_zero:
            self.record.write()
        most = EXACT if self.exact else ROUGH
        if not apart <= most:
            raise ConfigError(
                f"task.packing={getattr(task, 'packing', '')}: in a row with others, an example's loss a token differs "
                f"by {apart:.2g} from that in a row of its own, and may by {most:g}: with this model and method, "
                "examples in a row are not kept apart. Set task.packing=off"
            )
        log.info("shared rows: %d examples in %d rows, losses a token within %.1g", len(chosen), rows[0], apart)
