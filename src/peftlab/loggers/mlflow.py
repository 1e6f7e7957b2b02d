"""MLflow, in files of the run folder or on a tracking server."""

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

import mlflow  # noqa: F401  # Lightning would miss it only once the run has begun
from lightning.pytorch.loggers import MLFlowLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from mlflow.entities import Param
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_EXPERIMENT_NAME_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
)

from peftlab.masking.mask import mask
from peftlab.runs.record import RunRecord
from peftlab.seams.lightning import flat_parameters
from peftlab.storage.digests import sha256_of
from peftlab.storage.names import shortened
from peftlab.terminal.console import VERBATIM

log = logging.getLogger("peftlab")

_LONGEST_PART = 200
"""Characters of a part of a name, which is a folder or a file where MLflow keeps files."""

_SERVERS = re.compile(r"(https?|databricks|databricks-uc|postgresql|mysql|mssql)(\+\w+)?(://|\Z)")
"""How the address of a server begins; others are files, wherever they lie."""

STATUS = {"completed": "FINISHED", "interrupted": "KILLED"}
"""MLflow's word for how a run ended; any other way is FAILED."""


class MLflow(MLFlowLogger):
    """An MLflow run with the metrics, the configuration as parameters and the tables as CSV files.

    Args:
        save_dir: the run folder.
        tracking_uri: a server, of MLflow's or of a database; None: the store that MLFLOW_TRACKING_URI names, of
            any kind, or files in ``tracking/mlflow``.
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
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        if tracking_uri is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow 3 wants a database
        # a new store has no experiment yet, and Lightning warns of that
        logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
        name = mask(run_name) if run_name else Path(save_dir).name
        self._keys: dict[str, str] = {}
        super().__init__(experiment, name, tracking_uri=tracking_uri or folder.as_uri(), tags={})

    @classmethod
    def refuse(cls, options: Mapping[str, Any]) -> str | None:
        """Return which of `options` MLflow does not take, and why; None: all are fine."""
        text = options.get("experiment", "peftlab")
        if not text or len(text) > MAX_EXPERIMENT_NAME_LENGTH:
            most = f"MLflow takes 1 to {MAX_EXPERIMENT_NAME_LENGTH}"
            return f"experiment = '{text[:80]}' has {len(text)} characters: {most}. Shorten it"
        if (uri := options.get("tracking_uri")) and not _SERVERS.match(uri):
            return (
                f"tracking_uri = '{uri}' is no server, and a configuration chooses no other place to write to than the "
                "run's folder. Set MLFLOW_TRACKING_URI in the environment, or leave it null"
            )
        return None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row; a name that MLflow does not take is changed, which is told once."""
        super().log_metrics({self._key(name): value for name, value in metrics.items()}, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log a configuration as parameters; of a value that is longer than MLflow takes the end is lost, and told."""
        flat = {key: str(value) for key, value in flat_parameters(params).items()}
        long = [key for key, value in flat.items() if len(value) > MAX_PARAM_VAL_LENGTH]
        if long:
            log.info("MLflow: of %s the first %d characters are kept", ", ".join(long), MAX_PARAM_VAL_LENGTH)
        given = [Param(self._key(key), value[:MAX_PARAM_VAL_LENGTH]) for key, value in flat.items()]
        for start in range(0, len(given), MAX_PARAMS_TAGS_PER_BATCH):
            self.experiment.log_batch(run_id=self.run_id, params=given[start : start + MAX_PARAMS_TAGS_PER_BATCH])

    def _key(self, name: str) -> str:
        """Return `name`, or what stands for it in MLflow, which knows no other than letters, digits and ``_/. -``."""
        if name not in self._keys:
            clean = re.sub(r"[^\w/. -]", "_", name, flags=re.ASCII)
            parts = [shortened(part, _LONGEST_PART) for part in clean.split("/") if part not in ("", ".", "..")]
            key = "/".join(parts)
            if key != name:  # two names must not become one
                key = f"{shortened(key, MAX_ENTITY_KEY_LENGTH - 9)}-{sha256_of(name)[:8]}"
                log.info("MLflow: '%s' is called '%s' there", name, key, extra=VERBATIM)
            self._keys[name] = key
        return self._keys[name]

    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Keep a table as ``tables/<key>.csv`` among the artifacts."""
        text = io.StringIO()
        csv.writer(text).writerows([columns, *data])
        self.experiment.log_text(self.run_id, text.getvalue(), f"tables/{key}.csv")

    def conclude(self, record: RunRecord) -> None:
        """End the run as the record says."""
        self.experiment.set_tag(self.run_id, "peftlab.status", record.data["status"])
        self.experiment.set_terminated(self.run_id, STATUS.get(record.data["status"], "FAILED"))
