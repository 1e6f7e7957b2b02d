"""Proves, on a run's own examples and before its first step, that rows shared by examples change nothing."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from peftlab.data.module import DataModule
from peftlab.devices.products import products
from peftlab.errors import ConfigError
from peftlab.runs.record import RunRecord
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

EXAMPLES = 8
"""Examples that are compared, of all lengths."""
EXACT, ROUGH = 1e-4, 5e-2
"""How far apart losses may be, a token: of each example in fp32, and of all together in less, which rounds those of
short answers by more. Pretrained models that see neighbours are off by 0.1."""


class SharedRows(Callback):
    """Compares the losses of examples that share rows with those of rows of their own, see `Task.packs`.

    The model, with its method, computes with the attention of the run, without dropout, and in fp32 if its weights are;
    else in the precision of the run. The record's section ``shared_rows`` has the number of examples and rows, and how
    far apart their losses are, a token: the example that is the furthest. No fewer rows than examples: no two fit in
    one, and nothing is compared.

    Args:
        data: the data of the run.
        record: its record.
    """

    def __init__(self, data: DataModule, record: RunRecord) -> None:
        self.data, self.record = data, record

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare them before the first step.

        Raises:
            ConfigError: they differ: the model does not keep examples in a row apart.
        """
        assert isinstance(pl_module, Tuner)
        if trainer.global_step:
            return
        members, task = self.data.splits["train"], self.data.task
        exact = all(weight.dtype == torch.float32 for weight in pl_module.model.parameters())
        chosen = self._chosen()
        losses, rows = [], []
        pl_module.eval()
        with ExitStack() as context:
            context.enter_context(torch.no_grad())
            context.enter_context(products(tf32=False) if exact else trainer.precision_plugin.forward_context())
            for collate in (task.together, task.apart):
                batch = collate(members.examples, members.encoded, chosen).to(pl_module.device)
                losses.append(task.losses(pl_module(batch), batch).double())
                rows.append(len(batch.rows))
        pl_module.train()
        apart = (losses[0] - losses[1]).abs()
        largest = float((apart / batch.weights.clamp(min=1)).max())
        self.record.extend("shared_rows", {"examples": len(chosen), "rows": rows[0], "largest_difference": largest})
        if trainer.is_global_zero:
            self.record.write()
        if rows[0] == len(chosen):
            log.info("shared rows: no two examples fit in one of data.max_tokens=%d", self.data.spec.max_tokens)
            return
        found, most = (largest, EXACT) if exact else (float(apart.sum() / batch.weights.sum().clamp(min=1)), ROUGH)
        if not found <= most:
            raise ConfigError(
                f"task.packing={getattr(task, 'packing', '')}: in a row with others, an example's loss a token differs "
                f"by {found:.2g} from that in a row of its own, and may by {most:g}: with this model and method, "
                "examples in a row are not kept apart. Set task.packing=off"
            )
        log.info("shared rows: %d examples in %d rows, losses a token within %.1g", len(chosen), rows[0], found)

    def _chosen(self) -> list[int]:
        """Return examples to compare, of all lengths and with the two shortest: if any fit in one row, those do."""
        members = self.data.splits["train"]
        learns = self.data.task.weights(members.examples, members.encoded, range(len(members.examples))) > 0
        order = [int(i) for i in np.argsort(members.encoded.lengths, kind="stable") if learns[i]]
        number = max(2, min(EXAMPLES, self.data.spec.batch_size))
        places = np.linspace(0, len(order) - 1, number - 1).round()
        return [order[place] for place in sorted({0, min(1, len(order) - 1), *map(int, places)})]
