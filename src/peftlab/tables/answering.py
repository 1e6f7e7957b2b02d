"""Answers a scorecard's question for new applications: how probable, approved or not, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from peftlab.errors import DataError, UserError, did_you_mean
from peftlab.tables.applications import read_rows
from peftlab.tables.kept import Decision, Kept
from peftlab.tables.out_of_fold import log_odds
from peftlab.tables.reasons import TEXT
from peftlab.use.finished import load


def decide(
    folder: Path, file: Path, allow: Sequence[str] = (), tell: Callable[[str], None] = lambda notice: None
) -> Iterator[tuple[str, Decision]]:
    """Yield the place of each row of a file and what the scorecard says of it.

    Args:
        folder: of the scorecard.
        file: CSV, TSV, JSON Lines, Parquet or Arrow, with the columns of the table that it was built from.
        allow: your own packages whose classes the configuration of the text model may name.
        tell: is called with the notice of the text model, if it has one.

    Raises:
        UserError: the folder holds no scorecard, or another text model than its own.
        DataError: the file cannot be read, or a row lacks a column.
    """
    kept = Kept.read(folder)
    run = load(folder / kept.run["folder"], allow)
    if run.record.data["identity"]["sha256"] != kept.run["identity"]:
        raise UserError(
            f"{run.folder.path}: is not the run whose scores {folder / 'model.json'} was fitted to. Build it again"
        )
    if run.notice:
        tell(run.notice)
    if not file.is_file():
        raise DataError(f"--predict {file}: is no file")
    rows, places = read_rows(file)
    for row, place in zip(rows, places, strict=True):
        if kept.text not in row:
            raise DataError(f"{place}: there is no column '{kept.text}'.{did_you_mean(kept.text, row)}")
        if row[kept.text] is None or not str(row[kept.text]).strip():
            raise DataError(f"{place}: '{kept.text}' is empty. Write what stood there in training, such as 'no text'")
    answers = run.predict([str(row[kept.text]).strip() for row in rows])
    cells = [
        {**row, TEXT: log_odds(answer["probabilities"][kept.positive])}
        for row, answer in zip(rows, answers, strict=True)
    ]
    yield from zip(places, kept.decisions(cells, places), strict=True)
