"""The loggers of one run, from start to end: a logger that fails never fails the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from lightning.pytorch.loggers import Logger

from peftlab.devices.processes import rank
from peftlab.errors import DiskError
from peftlab.masking.mask import mask_settings
from peftlab.runs.record import RunRecord
from peftlab.scores.scorer import Table
from peftlab.storage.disk import refusal
from peftlab.terminal.console import log_file

log = logging.getLogger("peftlab")


class Tracking:
    """Starts, feeds and ends the loggers of a run; a context around the recording.

    Args:
        makers: the factory of each logger, by name; it takes the run's folder.
    """

    def __init__(self, makers: Mapping[str, Callable[..., Logger] | None]) -> None:
        self.makers = {name: make for name, make in makers.items() if make is not None}
        self.loggers: list[Unfailing] = []
        self._record: RunRecord | None = None

    def __enter__(self) -> Self:
        return self

    def start(self, record: RunRecord, config: Mapping[str, Any]) -> list[Unfailing]:
        """Return the started loggers for the trainer; none but in the first process.

        Args:
            record: the record of the run, which has started.
            config: the resolved configuration; it is logged without its secrets.
        """
        self._record = record
        if rank() == 0:
            for name, make in self.makers.items():
                logger = Unfailing(name, make, record)
                self.loggers.append(logger)
                logger.log_hyperparams(mask_settings(config))
        return self.loggers

    def __exit__(self, *_: object) -> None:
        """End the loggers: the record is finished by now."""
        if self._record is None or not self.loggers:
            return
        with log_file(self._record.folder / "log.txt"):
            for logger in self.loggers:
                if message := logger.conclude(self._record):
                    log.info("%s", message)


class Unfailing(Logger):
    """A logger whose first failure is reported; the run goes on in any case."""

    def __init__(self, name: str, make: Callable[..., Logger], record: RunRecord) -> None:
        super().__init__()
        self.label = name
        self._reported = False
        self._record = record
        self._logger: Logger | None = None
        self._logger = self._try(lambda: make(save_dir=record.folder))
        self._call("begin", record)

    @property
    def experiment(self) -> Any:
        """The logger's own experiment object; None where it has none."""
        return self._try(lambda: getattr(self._logger, "experiment", None))

    @property
    def name(self) -> str | None:
        """The logger's own name for the experiment."""
        return self._try(lambda: self._logger.name if self._logger else None)

    @property
    def version(self) -> int | str | None:
        """The logger's own name for this run."""
        return self._try(lambda: self._logger.version if self._logger else None)

    @property
    def save_dir(self) -> str | None:
        """The folder of the logger's files."""
        return self._try(lambda: self._logger.save_dir if self._logger else None)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log a row."""
        self._call("log_metrics", metrics, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log a configuration."""
        self._call("log_hyperparams", *args, **kwargs)

    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Log a table."""
        self._call("log_table", key, columns, data)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the logger."""
        return self._call("state_dict") or {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore it."""
        if state_dict:
            self._call("load_state_dict", state_dict)

    def save(self) -> None:
        """Write what has been logged."""
        self._call("save")

    def finalize(self, status: str) -> None:
        """End a fit, a validation or a test."""
        self._call("finalize", status)

    def conclude(self, record: RunRecord) -> str | None:
        """End the run; return a message about it, if any."""
        message = self._call("conclude", record)
        return str(message) if message else None

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the logger where it has one."""
        return self._try(lambda: getattr(self._logger, method, _nothing)(*args, **kwargs))

    def _try(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # noqa: BLE001  # whatever it is, the run is worth more
            if not self._reported:
                self._reported = True
                reason = refusal(self._record.folder, error) or f"{type(error).__name__}: {error}"
                log.warning("logger.%s fails and the run goes on: %s", self.label, reason)
                self._record.event("logger failed", logger=self.label, reason=reason)
                with suppress(DiskError):  # which may well be the reason
                    self._record.write()
            return None


def log_tables(loggers: Iterable[Logger], split: str, tables: Mapping[str, Table]) -> None:
    """Log `tables` of a split to the loggers that take tables."""
    for logger in loggers:
        for name, (columns, rows) in tables.items():
            getattr(logger, "log_table", _nothing)(f"{split}/{name}", columns, rows)


def _nothing(*_: Any, **__: Any) -> None:
    """Stand in for a method that a logger lacks."""
