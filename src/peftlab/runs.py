"""Finding runs: by folder or by the start of an id, or all as a table; what lies beside the record. No torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peftlab import plain_yaml
from peftlab.entries import check_readable, inside
from peftlab.errors import ConfigError, UserError, did_you_mean
from peftlab.record import FILE_NAME, RunRecord

log = logging.getLogger("peftlab")

ROOTS = (Path("runs"), Path("sweeps"))
"""The folders that runs are made in: ``<root>/<name>/<start of the id>``."""

CONFIG, PACKAGES = "config.yaml", "packages.txt"
"""What lies beside the record: the resolved configuration, and the installed packages, one a line."""

_TOLD: set[Path] = set()
"""Folders whose records cannot be read: told once, not whenever somebody looks."""
VERDICTS = "reproduction.json"
"""Beside the record, too: a list of verdicts of `peftlab reproduce`, the newest last."""

_SHOWN = 8
"""How many runs a message lists."""


def find(run: str | Path) -> Path:
    """Return the folder of `run`: a run folder, or the name of one below `ROOTS` or the start of it.

    Raises:
        UserError: no run, or more than one, could be meant; lists what is near. Or what is in it leads elsewhere.
    """
    folder = _meant(run)
    check_readable(folder)
    return folder


def _meant(run: str | Path) -> Path:
    """Return the folder that `run` names."""
    path = Path(run)
    if (path / FILE_NAME).is_file():
        return path
    if path.is_dir():
        raise UserError(f"'{run}' is no run folder: it has no {FILE_NAME}.{_listed(path.rglob(FILE_NAME))}")
    runs = sorted(file.parent for root in ROOTS for file in root.glob(f"*/*/{FILE_NAME}"))
    whole = [folder for folder in runs if folder.name == str(run)]
    found = whole or [folder for folder in runs if folder.name.startswith(str(run))]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"'{run}' could be {len(found)} runs: {_few(found)}. Name one by more of its id or its folder.")
    searched = " and ".join(f"{root}/" for root in ROOTS)
    if not runs:
        raise UserError(f"'{run}' is no run folder, and {searched} hold no run; `peftlab runs DIR` looks elsewhere.")
    suggestion = did_you_mean(str(run), [folder.name for folder in runs]) or f" There are: {_few(runs)}."
    raise UserError(f"'{run}' is neither a run folder nor the start of a run's id in {searched}.{suggestion}")


def runs_below(folder: str | Path | None = None) -> list[dict[str, Any]]:
    """Return a row of facts for every run below `folder`, by default below `ROOTS`, the newest first.

    A row has ``folder``, ``id`` (what `find` knows it by), ``name``, ``status``, ``metric`` (what the best checkpoint
    was selected by), ``validation`` and ``test`` (its values there), ``trainable_parameters``, ``wall_seconds`` and
    ``started_at``, None where unknown. A record that cannot be read gives ``folder``, ``id`` and ``error``, and comes
    last.

    Raises:
        UserError: there is no such folder.
    """
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"'{folder}' is no folder. Name one that holds runs, or none for {ROOTS[0]}/ and {ROOTS[1]}/.")
    roots = ROOTS if folder is None else [Path(folder)]
    rows = [_row(file.parent) for root in roots for file in sorted(root.rglob(FILE_NAME))]
    return sorted(rows, key=lambda row: row.get("started_at") or "", reverse=True)


def readable_records(folders: Iterable[Path]) -> Iterator[RunRecord]:
    """Yield the records in those of `folders` that have one; one that cannot be read is told of, and hides no other."""
    for folder in folders:
        if (folder / FILE_NAME).is_file():
            try:
                yield RunRecord.load(folder)
            except UserError as error:
                if (whole := folder.absolute()) not in _TOLD:
                    _TOLD.add(whole)
                    log.warning("passed over: %s", error)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the resolved configuration of the run in `folder`.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file; is {folder} a whole run folder?")
    with plain_yaml.reading(file):
        config = plain_yaml.load(inside(folder, file).read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ConfigError(f"{file}: expected keys and values. Put back the file that the run has left there")
    return {str(key): value for key, value in config.items()}


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """Return the predictions in a file of a run, one a line; texts may hold other characters that end lines.

    Raises:
        OSError, ValueError: it cannot be read, or a line is no JSON object.
    """
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    except RecursionError:
        raise ValueError(f"{file.name} is nested too deeply") from None
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file.name} holds a line that is no JSON object")
    return rows


def _row(folder: Path) -> dict[str, Any]:
    where = {"folder": str(folder), "id": folder.name if folder.parent.parent in ROOTS else str(folder)}
    try:
        record = RunRecord.load(folder).data
        metric = record["selection"]["metric"]
        scores = {score["split"]: score["value"] for score in record["metrics"] if score["name"] == metric}
        return where | {
            **{key: record[key] for key in ("name", "status")},
            "metric": metric,
            **{split: scores.get(split) for split in ("validation", "test")},
            "trainable_parameters": record["method"]["trainable_parameters"],
            "wall_seconds": record["cost"]["wall_seconds"],
            "started_at": record["started_at"],
        }
    except UserError as error:
        return where | {"error": str(error)}


def _listed(records: Iterable[Path]) -> str:
    folders = sorted(file.parent for file in records)
    return f" Runs in it: {_few(folders)}." if folders else ""


def _few(folders: list[Path]) -> str:
    return ", ".join(map(str, folders[:_SHOWN])) + (", ..." if len(folders) > _SHOWN else "")
