"""Loggers of our own; Lightning's are named in ``conf/logger/`` as they are."""

from __future__ import annotations

from pathlib import Path

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
