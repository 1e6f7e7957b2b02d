"""``metrics.csv`` and ``tables/`` in the run folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import CSVLogger
from lightning.pytorch.loggers.logger import Logger


class MetricsCsv(Logger, CSVLogger):
    """``metrics.csv`` in the run folder: a row for every logged step, a column for every metric.

    Lightning's own CSV logger adds a folder for versions and a file of hyperparameters, which the run record replaces.
    """

    def __init__(self, save_dir: str | Path, flush_every: int = 50) -> None:
        CSVLogger.__init__(self, root_dir=save_dir, name="", version="", flush_logs_every_n_steps=flush_every)

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return self.root_dir

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Write nothing: the configuration is beside ``metrics.csv`` already."""

    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Write ``tables/<key>.csv``."""
        path = Path(self.root_dir) / "tables" / f"{key}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *data])
