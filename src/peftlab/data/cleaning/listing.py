"""A list of findings as a CSV file, for a person to edit and a run to act on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from peftlab.data.cleaning.finding import Finding
from peftlab.errors import DataError

COLUMNS = ("rank", "split", "id", "reason", "score", "text", "gold", "suggested", "note")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to a spreadsheet."""


def rows_of(findings: Sequence[Finding]) -> list[dict[str, str | float | int | None]]:
    """Return the findings as rows with `COLUMNS`, ranked from 1."""
    return [
        {
            "rank": rank,
            "split": one.split,
            "id": one.id,
            "reason": one.reason,
            "score": one.score,
            "text": one.text,
            "gold": one.gold,
            "suggested": one.suggested,
            "note": one.note,
        }
        for rank, one in enumerate(findings, start=1)
    ]


def text_of(findings: Sequence[Finding]) -> str:
    """Return the findings as CSV with a header.

    Text that a spreadsheet would take for a formula gets an apostrophe in front, which `listed` does not read: it looks
    at split, id and reason only.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows_of(findings):
        writer.writerow({key: as_cell(value) for key, value in row.items()})
    return out.getvalue()


def as_cell(value: str | float | int | None) -> str | float | int | None:
    """Return a value as a cell, with an apostrophe before what a spreadsheet would take for a formula."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def listed(file: Path, ids: Mapping[str, str], reason: str = "label error", split: str = "train") -> list[str]:
    """Return the ids of the examples of `split` that a list, perhaps edited, names for `reason`, in its order.

    Rows for other reasons and splits are passed over: one list may serve several purposes.

    Args:
        file: CSV with a header that has the columns ``split``, ``id`` and ``reason``.
        ids: the split of each example of the data set, by id.
        reason: the reason.
        split: the split.

    Raises:
        DataError: the file cannot be read, is no such list, names an example that the data set does not have, or names
            none for this reason.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if missing := {"split", "id", "reason"} - {*(reader.fieldnames or ())}:
                raise DataError(
                    f"{file}: has no column {', '.join(sorted(missing))}. Name a list of `peftlab clean --csv`, from "
                    "which rows may have been removed"
                )
            chosen: list[str] = []
            for row in reader:
                if row["split"] != split or row["reason"] != reason:
                    continue
                if row["id"] not in ids:
                    raise DataError(
                        f"{file}:{reader.line_num}: the data set has no example '{row['id']}': the list is of "
                        "other data"
                    )
                chosen.append(row["id"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as CSV in UTF-8 ({error}). Name another file") from error
    if not chosen:
        raise DataError(f"{file}: has no row of the {split} split with the reason '{reason}': there is nothing to do")
    return list(dict.fromkeys(chosen))
