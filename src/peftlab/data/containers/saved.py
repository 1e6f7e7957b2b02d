"""Folders that the method ``save_to_disk`` of the library ``datasets`` writes: Arrow files, and a list of them."""

from __future__ import annotations

import json
from pathlib import Path

from peftlab.errors import DataError

_STATE = "state.json"
NOTES = ("dataset_info.json", _STATE, "dataset_dict.json")
"""The files in them that hold no rows."""


def saved_files(folder: Path) -> list[Path] | None:
    """Return the files of the rows of a saved split, in order; None if the folder is no such split.

    Raises:
        DataError: the list of them is malformed, or its split has a selection of rows that is kept apart.
    """
    state = folder / _STATE
    if not state.is_file():
        return None
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
        names = [one["filename"] for one in content["_data_files"]]
        selected = content.get("_indices_data_files")
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError("a name is none of a file beside it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{state}: is no list of the files of a saved data set ({type(error).__name__}: {error}). Save it again."
        ) from None
    if selected:
        raise DataError(
            f"{state}: its rows are a selection that is kept apart. Save it again after `flatten_indices()`."
        )
    return [folder / name for name in names]
