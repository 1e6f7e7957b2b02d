"""Shows the progress of training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from peftlab.tasks.batch import Batch
from peftlab.terminal.console import VERBATIM, clock, console, log


class Progress(Callback):
    """Shows loss, learning rate, samples per second and time left; after each validation, its scores.

    Args:
        every_seconds: interval between plain lines, where the output is not a terminal.
    """

    def __init__(self, every_seconds: float = 20.0) -> None:
        self.every_seconds = every_seconds
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._last_line = 0.0
        self._samples = self._first_step = 0
        self._seconds = 0.0
        self._since: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; on a terminal, draw the bar."""
        self._since = self._last_line = time.perf_counter()
        self._first_step = trainer.global_step
        if console.is_terminal and trainer.is_global_zero:
            self._bar = Bar(
                TextColumn("training"),
                BarColumn(bar_width=None),
                TextColumn("{task.description}"),
                console=console,
                transient=True,
                expand=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=trainer.estimated_stepping_batches)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: list[Batch], batch_idx: int
    ) -> None:
        """Show the step: always in the bar, every so often as a line."""
        now = time.perf_counter()
        self._samples += sum(len(part.examples) for part in batch) * trainer.world_size
        due = self._bar is not None or now - self._last_line >= self.every_seconds
        if due and self._since is not None:
            self._seconds += now - self._since
            self._since = now
            text = self._describe(trainer)
            if self._bar is not None:
                self._bar.update(self._task, completed=trainer.global_step, description=text)
            else:
                log.info("%s", text)
                self._last_line = now

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the scores and restart the clock."""
        if trainer.state.fn != "fit":
            return
        self._since = self._last_line = time.perf_counter()
        scores = "  ".join(
            f"{name.removeprefix('validation/')} {float(value):.4f}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        )
        log.info("step %d  validation: %s", trainer.global_step, scores, extra=VERBATIM)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the bar."""
        self.on_train_end(trainer, pl_module)

    def _describe(self, trainer: L.Trainer) -> str:
        step, steps = trainer.global_step, int(trainer.estimated_stepping_batches)
        rate = self._samples / self._seconds if self._seconds else 0.0
        done = step - self._first_step
        left = (steps - step) * self._seconds / done if done else 0.0
        loss = trainer.callback_metrics.get("train/loss")  # the logged one: of the whole batch, over all ranks
        shown = "" if loss is None else f"loss {float(loss):.4f}  "
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        return f"step {step}/{steps}  {shown}lr {lr:.2e}  {rate:.0f} samples/s  ETA {clock(left)}"
