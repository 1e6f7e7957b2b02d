"""Prints the learning curve of a run when its training ends."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.terminal.console import VERBATIM, log

_WIDTH = 40
"""Characters of the longest bar."""
_MOST_LINES = 30
"""Of more validations, evenly spread ones are shown, the last among them."""


class Curve(Callback):
    """Prints a line for each validation: the optimiser step, the score, and a bar from the least to the greatest.

    A run that goes on from a checkpoint shows the validations before it, too.

    Args:
        monitor: the score, as logged, such as ``validation/entity_f1``.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.points: list[tuple[int, float]] = []
        """Steps and scores."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember the score.

        Raises:
            ValueError: no such score is logged.
        """
        if trainer.state.fn != "fit":
            return
        if self.monitor not in trainer.callback_metrics:
            logged = ", ".join(sorted(name for name in trainer.callback_metrics if name.startswith("validation/")))
            raise ValueError(f"callbacks.curve.monitor = '{self.monitor}' is not logged; logged are {logged or 'none'}")
        self.points.append((trainer.global_step, float(trainer.callback_metrics[self.monitor])))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the curve."""
        if self.points and trainer.is_global_zero:
            log.info("%s", drawn(self.monitor, self.points), extra=VERBATIM)

    def state_dict(self) -> dict[str, Any]:
        """Return the validations so far."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the validations before a checkpoint."""
        self.points = [(int(step), float(value)) for step, value in state_dict["points"]]


def drawn(name: str, points: list[tuple[int, float]]) -> str:
    """Return the curve of `points`, steps and scores, as lines of text."""
    shown = points
    if len(points) > _MOST_LINES:
        shown = [points[round(n * (len(points) - 1) / (_MOST_LINES - 1))] for n in range(_MOST_LINES)]
    values = [value for _, value in shown if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    width = len(f"{shown[-1][0]:,}")
    lines = [f"{name}, by step"]
    for step, value in shown:
        share = (value - low) / (high - low) if high > low else 1.0
        bar = "█" * max(1, round(share * _WIDTH)) if math.isfinite(value) else ""
        lines.append(f"{step:{width},}  {value:.4f}  {bar}".rstrip())
    return "\n".join(lines)
