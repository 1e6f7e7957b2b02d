"""Logs for TensorBoard; view with ``tensorboard --logdir <run folder>/tracking``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorboard  # noqa: F401  # else Lightning fails only after the run has begun
from lightning.pytorch.loggers import TensorBoardLogger

from peftlab.runs.record import RunRecord
from peftlab.seams.lightning import purge_events_from


class TensorBoard(TensorBoardLogger):
    """Event files in ``tracking/tensorboard``, with tables as text.

    Args:
        save_dir: the run folder.
        flush_seconds: interval between writes to disk.
    """

    def __init__(self, save_dir: str | Path, flush_seconds: int = 30) -> None:
        folder = Path(save_dir) / "tracking" / "tensorboard"
        super().__init__(folder, name="", version="", default_hp_metric=False, flush_secs=flush_seconds)

    def begin(self, record: RunRecord) -> None:
        """Drop the entries that a resumed run will log again."""
        purge_events_from(self, record.resumed_at)

    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Log a table as Markdown."""
        rows = [columns, ["---"] * len(columns), *data]
        text = "\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)
        self.experiment.add_text(key, text)
        self.experiment.flush()


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
