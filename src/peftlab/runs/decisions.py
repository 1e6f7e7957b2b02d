"""The decisions of a run, such as thresholds: beside the adapter, and in a section of the record. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftlab.errors import UserError

DECISIONS = "decisions.json"
"""The decisions that belong to an adapter, in its folder."""
STATISTICS = "scope.safetensors"
"""What a score of texts out of scope has learnt of the training split, beside the decisions."""
SCOPE = "out_of_scope"
"""The entry of the file, and the section of the record, on what is out of scope."""
SECTION = "decisions"
"""The section of the record: what was ``learnt`` on the validation split, and the ``optimism`` that decisions learnt on
the test split would have shown."""


def save_decisions(decisions: Mapping[str, Any], folder: Path) -> None:
    """Write the decisions of an adapter to its folder; none: no file."""
    if decisions:
        text = json.dumps(decisions, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / DECISIONS).write_text(f"{text}\n", encoding="utf-8")


def read_decisions(folder: Path) -> dict[str, Any]:
    """Return the decisions of the task of the adapter in `folder`; empty if it has none.

    Raises:
        UserError: the file is damaged.
    """
    return {key: value for key, value in _read(folder).items() if key != SCOPE}


def read_scope(folder: Path) -> dict[str, Any] | None:
    """Return what the run of the adapter in `folder` has decided on texts out of scope; None: nothing.

    Raises:
        UserError: the file is damaged.
    """
    scope: dict[str, Any] | None = _read(folder).get(SCOPE)
    return scope


def _read(folder: Path) -> dict[str, Any]:
    file = folder / DECISIONS
    if not file.is_file():
        return {}
    try:
        decisions = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: is damaged ({error}). Put back the file that the run left") from error
    if not isinstance(decisions, dict):
        raise UserError(f"{file}: is damaged: it holds no JSON object. Put back the file that the run left")
    return decisions
