"""The runs beside a run that differ from it in their seed alone. No torch."""

from __future__ import annotations

from typing import Any

from peftlab.errors import UserError
from peftlab.runs.folder import RunFolder
from peftlab.runs.identity import deciding_part
from peftlab.runs.record import FILE_NAME, RunRecord
from peftlab.storage.digests import sha256_of


def other_seeds(folder: RunFolder) -> dict[int, RunRecord]:
    """Return the completed runs beside the one in `folder` that differ from it in their seed alone, by seed.

    Runs with its own seed are left out, and so are those that cannot be read or need packages that it may not use.
    """
    own = folder.read_config()["seed"]
    wanted = _but_seed(folder)
    others: dict[int, RunRecord] = {}
    for file in sorted(folder.path.absolute().parent.glob(f"*/{FILE_NAME}")):
        try:
            record = RunRecord.load(file)
            if record.data["status"] != "completed" or _inputs(record) != _inputs(folder.record):
                continue
            beside = RunFolder(record, allow=folder.allow)
            if _but_seed(beside) == wanted:
                others[beside.read_config()["seed"]] = record
        except (UserError, LookupError, TypeError):  # an incomplete run says nothing
            continue
    others.pop(own, None)
    return others


def _inputs(record: RunRecord) -> tuple[Any, Any, Any]:
    identity = record.data["identity"]
    return identity["data_sha256"], identity["weights_sha256"], record.data["method"]["name"]


def _but_seed(folder: RunFolder) -> str:
    """Return a digest of what decides the result, the seed apart."""
    return sha256_of(deciding_part(folder.read_config() | {"seed": None}))
