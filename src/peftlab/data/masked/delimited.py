"""CSV and TSV files, masked cell by cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from peftlab.data.delimited_rows import EXCEL, delimiter_of, rows_of
from peftlab.data.masked.tally import Tally
from peftlab.data.text_files import read_text


def masked_delimited(path: Path, tally: Tally) -> Iterator[bytes]:
    """Yield the rows with every cell masked, in UTF-8 and with line feeds.

    A first row without personal data counts as the names of the columns; else they are called by their number, from 0.
    """
    content = read_text(path)
    delimiter = delimiter_of(path, content)
    if (named := EXCEL.match(content)) is not None:
        yield f"{named[0].rstrip()}\n".encode()
    columns: list[str] | None = None
    for row in rows_of(path, content, delimiter, quotes=True):
        place = f"{path}:{row.line}"
        if columns is None:
            first = [tally.of(str(n), place)(cell).text for n, cell in enumerate(row.fields)]
            columns = row.fields if first == row.fields else []
            yield _line(first, delimiter)
            continue
        names = (columns[n] if n < len(columns) else str(n) for n in range(len(row.fields)))
        cells = [tally.of(name, place)(cell).text for name, cell in zip(names, row.fields, strict=True)]
        yield _line(cells, delimiter)


def _line(cells: list[str], delimiter: str) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()
