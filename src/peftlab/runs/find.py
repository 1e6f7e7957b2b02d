"""Finding runs by folder or by the start of an id, or all of them as a table. No torch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peftlab.errors import UserError, did_you_mean
from peftlab.runs.record import FILE_NAME, RunRecord
from peftlab.scores.scorer import SCORED
from peftlab.storage.entries import check_readable

log = logging.getLogger("peftlab")

ROOTS = (Path("runs"), Path("sweeps"))
"""The folders that hold runs: ``<root>/<name>/<start of the id>``."""

_REPORTED: set[Path] = set()
"""Folders with an unreadable record that has been reported: each is reported once."""

_SHOWN = 8
"""How many runs a message lists."""


def find(run: str | Path) -> Path:
    """Return the folder of `run`: a run folder, or the name of one below `ROOTS` or the start of that name.

    Raises:
        UserError: no run, or more than one, matches (lists the nearest); or an entry of the folder leads out of it.
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
    matches = whole or [folder for folder in runs if folder.name.startswith(str(run))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(
            f"'{run}' could be {len(matches)} runs: {_few(matches)}. Name one by more of its id or its folder."
        )
    searched = " and ".join(f"{root}/" for root in ROOTS)
    if not runs:
        raise UserError(f"'{run}' is no run folder, and {searched} hold no run; `peftlab runs DIR` looks elsewhere.")
    suggestion = did_you_mean(str(run), [folder.name for folder in runs]) or f" There are: {_few(runs)}."
    raise UserError(f"'{run}' is neither a run folder nor the start of a run's id in {searched}.{suggestion}")


def runs_below(folder: str | Path | None = None) -> list[dict[str, Any]]:
    """Return a row for every run below `folder`, by default below `ROOTS`, newest first.

    A row has ``folder``, ``id`` (which `find` accepts), ``name``, ``status``, ``metric`` (which selected the best
    checkpoint), ``validation`` and ``test`` (its values there), ``trainable_parameters``, ``wall_seconds`` and
    ``started_at``; None if unknown. An unreadable record gives ``folder``, ``id`` and ``error``, and comes last.

    Raises:
        UserError: there is no such folder.
    """
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"'{folder}' is no folder. Name one that holds runs, or none for {ROOTS[0]}/ and {ROOTS[1]}/.")
    roots = ROOTS if folder is None else [Path(folder)]
    rows = [_row(file.parent) for root in roots for file in sorted(root.rglob(FILE_NAME))]
    return sorted(rows, key=lambda row: row.get("started_at") or "", reverse=True)


def readable_records(folders: Iterable[Path]) -> Iterator[RunRecord]:
    """Yield the records in `folders`; an unreadable one is logged once and skipped."""
    for folder in folders:
        if (folder / FILE_NAME).is_file():
            try:
                yield RunRecord.load(folder)
            except UserError as error:
                if (whole := folder.absolute()) not in _REPORTED:
                    _REPORTED.add(whole)
                    log.warning("passed over: %s", error)


def _row(folder: Path) -> dict[str, Any]:
    where = {"folder": str(folder), "id": folder.name if folder.parent.parent in ROOTS else str(folder)}
    try:
        run = RunRecord.load(folder)
        record, metric = run.data, run.data["selection"]["metric"]
        return where | {
            **{key: record[key] for key in ("name", "status")},
            "metric": metric,
            **{split: run.score(split, metric) for split in SCORED},
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
