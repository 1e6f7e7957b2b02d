"""MLflow, in files of the run folder or on a tracking server."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow  # noqa: F401  # Lightning would miss it only once the run has begun
from lightning.pytorch.loggers import MLFlowLogger

from peftlab.masking import mask
from peftlab.record import RunRecord

STATUS = {"completed": "FINISHED", "interrupted": "KILLED"}
"""MLflow's word for how a run ended; any other way is FAILED."""


class MLflow(MLFlowLogger):
    """An MLflow run with the metrics, the configuration as parameters and the tables as CSV files.

    Args:
        save_dir: the run folder.
        tracking_uri: a server or a database; None: files in ``tracking/mlflow``.
        experiment: what MLflow groups runs by.
        run_name: None: the name of the run folder.
    """

    def __init__(
        self,
        save_dir: str | Path,
        tracking_uri: str | None = None,
        experiment: str = "peftlab",
        run_name: str | None = None,
    ) -> None:
        folder = Path(save_dir).absolute() / "tracking" / "mlflow"
        if tracking_uri is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow 3 wants a database
        # a new store has no experiment yet, and Lightning warns of that
        logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
        name = mask(run_name) if run_name else Path(save_dir).name
        super().__init__(experiment, name, tracking_uri=tracking_uri or folder.as_uri(), tags={})

    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Keep a table as ``tables/<key>.csv`` among the artifacts."""
        text = io.StringIO()
        csv.writer(text).writerows([columns, *data])
        self.experiment.log_text(self.run_id, text.getvalue(), f"tables/{key}.csv")

    def conclude(self, record: RunRecord) -> None:
        """End the run as the record says."""
        self.experiment.set_tag(self.run_id, "peftlab.status", record.data["status"])
        self.experiment.set_terminated(self.run_id, STATUS.get(record.data["status"], "FAILED"))
