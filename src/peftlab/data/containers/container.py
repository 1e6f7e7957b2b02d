"""The interface of a container: the examples of its rows, in memory or read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from peftlab.data.rows.row_reader import Place

Make = Callable[[Mapping[str, Any], int, Place], Any]
"""Makes an example of a row, of the position of the example in the file, from 0, and of the row's place; None of a row
that is left out."""


class Container(Protocol):
    """Reads the rows of one file."""

    def examples(self, path: Path, columns: Collection[str], make: Make, held: int) -> Sequence[Any]:
        """Return the examples of the rows, in order; all rows are read and checked.

        Their attribute ``counts`` says how many rows were ``left_out``, if any.

        Args:
            path: the file.
            columns: the columns that are needed; none: all. Those that do not exist are left to `make` to miss.
            make: makes an example. It is pickled with a view, for the processes that load batches.
            held: bytes that the examples may take in memory. If they take more, they are a view that reads each one
                when it is needed, see `peftlab.data.views`; 0: they are one in any case.

        Raises:
            DataError: the file cannot be read, or a row is malformed; the message names the file and the line or row.
        """
