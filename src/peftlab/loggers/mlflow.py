"""Logs to MLflow: to files in the run folder, or to a tracking server."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow  # noqa: F401  # else Lightning fails only after the run has begun
from lightning.pytorch.loggers import MLFlowLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from mlflow.entities import LifecycleStage, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_EXPERIMENT_NAME_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
)

from peftlab.masking.mask import mask
from peftlab.runs.record import RunRecord
from peftlab.seams.lightning import flat_parameters, go_on_in_mlflow
from peftlab.storage.digests import sha256_of
from peftlab.storage.names import shortened
from peftlab.terminal.console import VERBATIM

log = logging.getLogger("peftlab")

_LONGEST_PART = 200
"""Maximum length of one part of a name, which is a folder or file name in MLflow's file store."""

_SERVERS = re.compile(r"(https?|databricks|databricks-uc|postgresql|mysql|mssql)(\+\w+)?(://|\Z)")
"""Matches the start of a server's address; any other address is a path."""

STATUS = {"completed": "FINISHED", "interrupted": "KILLED"}
"""MLflow's status for that of a run; any other is FAILED."""


class MLflow(MLFlowLogger):
    """An MLflow run with the metrics, the configuration as parameters and the tables as CSV files.

    A resumed run continues its MLflow run. Rows logged after the checkpoint stay there next to the same rows logged
    again, since MLflow cannot remove any, and parameters keep their first values.

    Args:
        save_dir: the run folder.
        tracking_uri: an MLflow or database server; None: the store of any kind that MLFLOW_TRACKING_URI names, else
            files in ``tracking/mlflow``.
        experiment: the MLflow experiment that groups the runs.
        run_name: the run's name; None: that of the run folder.
    """

    def __init__(
        self,
        save_dir: str | Path,
        tracking_uri: str | None = None,
        experiment: str = "peftlab",
        run_name: str | None = None,
    ) -> None:
        folder = Path(save_dir).absolute() / "tracking" / "mlflow"
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        if tracking_uri is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow 3 requires a database
        # Lightning warns that a new store has no experiment yet
        logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
        name = mask(run_name) if run_name else Path(save_dir).name
        self._keys: dict[str, str] = {}
        uri = tracking_uri or folder.as_uri()
        self._store = MlflowClient(uri)
        super().__init__(experiment, name, tracking_uri=uri, tags={})

    @classmethod
    def refuse(cls, options: Mapping[str, Any]) -> str | None:
        """Return the option that MLflow does not accept, with the reason; None: all are valid."""
        text = options.get("experiment", "peftlab")
        if not text or len(text) > MAX_EXPERIMENT_NAME_LENGTH:
            most = f"MLflow takes 1 to {MAX_EXPERIMENT_NAME_LENGTH}"
            return f"experiment = '{text[:80]}' has {len(text)} characters: {most}. Shorten it"
        if (uri := options.get("tracking_uri")) and not _SERVERS.match(uri):
            return (
                f"tracking_uri = '{uri}' is not a server, and a configuration may write only to the run's folder. "
                "Set MLFLOW_TRACKING_URI in the environment, or leave it null"
            )
        return None

    def begin(self, record: RunRecord) -> None:
        """Start the MLflow run, or continue that of a resumed run where the store has it."""
        tracked = [event["id"] for event in record.events("tracking") if event["logger"] == "mlflow"]
        if known := next(filter(self._goes_on, reversed(tracked)), None):
            go_on_in_mlflow(self, known)
            self.experiment.update_run(known, "RUNNING")
            return
        if tracked:
            log.warning("MLflow: the store no longer has the run %s: what follows is logged to a new one", tracked[-1])
        record.event("tracking", logger="mlflow", id=self.run_id)
        record.write()

    def _goes_on(self, run_id: str) -> bool:
        """Return whether the store has an MLflow run that takes more rows."""
        try:
            run = self._store.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return bool(run.info.lifecycle_stage == LifecycleStage.ACTIVE)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row; a name that MLflow does not accept is changed, which is logged once."""
        super().log_metrics({self._key(name): value for name, value in metrics.items()}, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log a configuration as parameters; values too long for MLflow are truncated, which is logged."""
        flat = {key: str(value) for key, value in flat_parameters(params).items()}
        kept = self.experiment.get_run(self.run_id).data.params  # of a resumed run; MLflow refuses to change them
        long = [key for key, value in flat.items() if len(value) > MAX_PARAM_VAL_LENGTH]
        if long:
            log.info("MLflow: only the first %d characters of %s are kept", MAX_PARAM_VAL_LENGTH, ", ".join(long))
        named = {self._key(key): value[:MAX_PARAM_VAL_LENGTH] for key, value in flat.items()}
        if stale := [key for key, value in named.items() if kept.get(key, value) != value]:
            log.info("MLflow: the parameters %s keep the values that the run began with", ", ".join(stale))
        parameters = [Param(key, value) for key, value in named.items() if key not in kept]
        for start in range(0, len(parameters), MAX_PARAMS_TAGS_PER_BATCH):
            batch = parameters[start : start + MAX_PARAMS_TAGS_PER_BATCH]
            self.experiment.log_batch(run_id=self.run_id, params=batch)

    def _key(self, name: str) -> str:
        """Return `name`, or its replacement in MLflow, which accepts only letters, digits and ``_/. -``."""
        if name not in self._keys:
            clean = re.sub(r"[^\w/. -]", "_", name, flags=re.ASCII)
            parts = [shortened(part, _LONGEST_PART) for part in clean.split("/") if part not in ("", ".", "..")]
            key = "/".join(parts)
            if key != name:  # two names must stay distinct
                key = f"{shortened(key, MAX_ENTITY_KEY_LENGTH - 9)}-{sha256_of(name)[:8]}"
                log.info("MLflow: '%s' is called '%s' there", name, key, extra=VERBATIM)
            self._keys[name] = key
        return self._keys[name]

    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Log a table as the artifact ``tables/<key>.csv``."""
        text = io.StringIO()
        csv.writer(text).writerows([columns, *data])
        self.experiment.log_text(self.run_id, text.getvalue(), f"tables/{key}.csv")

    def conclude(self, record: RunRecord) -> None:
        """End the run with the status in the record."""
        self.experiment.set_tag(self.run_id, "peftlab.status", record.data["status"])
        self.experiment.set_terminated(self.run_id, STATUS.get(record.data["status"], "FAILED"))
