"""Files of rows, in any container, with examples of any kind."""

from __future__ import annotations

import fnmatch
import itertools
import logging
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data import indexed_examples
from peftlab.data.containers.container import Container
from peftlab.data.containers.delimited import DelimitedContainer
from peftlab.data.containers.json_lines import JsonLinesContainer
from peftlab.data.containers.saved import NOTES, saved_files
from peftlab.data.containers.tables import ArrowContainer, ParquetContainer
from peftlab.data.examples import Examples
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.data.views import View
from peftlab.errors import DataError

log = logging.getLogger(__name__)

CONTAINERS: Mapping[str, Callable[[], Container]] = {
    ".jsonl": JsonLinesContainer,
    ".ndjson": JsonLinesContainer,
    ".json": JsonLinesContainer,
    ".csv": DelimitedContainer,
    ".tsv": DelimitedContainer,
    ".tab": DelimitedContainer,
    ".parquet": ParquetContainer,
    ".arrow": ArrowContainer,
    ".feather": ArrowContainer,
}
"""The containers by the suffix of a file's name."""

_PART = re.compile(r"(.*)-(\d{1,6})-of-(\d{1,6})(?!\d)(.*)")
"""How the libraries of Hugging Face call the parts of a file: ``train-00000-of-00003.parquet``."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class RowFiles:
    """How to read files of rows: the suffix of a file says how they are stored, and `rows` what they hold.

    A split is a file, or several: a folder, or a pattern such as ``train-*.parquet``, whose files are read one after
    another, in the order of their names; in a folder of ``save_to_disk``, in the order in which they were saved.
    """

    rows: RowReader
    """Makes the examples of rows."""

    @property
    def example(self) -> type:
        """The kind of its examples."""
        return self.rows.example

    @property
    def task(self) -> str | None:
        """The option of ``conf/task`` that the rows are for; None: the first that takes such examples."""
        return self.rows.task

    def takes_folders(self, path: Path) -> bool:
        """Return whether the splits of a data set at `path` are folders: those of ``save_to_disk``, or of data that has
        no file beside them.
        """
        return path.is_dir() and not any(map(_is_data, path.iterdir()))

    def read(self, files: Mapping[str, Path]) -> dict[str, Sequence[Any]]:
        """Return the examples of each split, with the ids ``split:0``, ``split:1``, ...

        Those of large files are read again when they are accessed.

        Args:
            files: the file, the folder or the pattern of each split.

        Raises:
            DataError: a file is missing, empty or of an unknown kind, or a row is malformed; the message names the file
                and the line or row.
        """
        return {split: self._read_split(split, path) for split, path in files.items()}

    def _read_split(self, split: str, path: Path) -> Sequence[Any]:
        files = files_of(path)
        size = sum(file.stat().st_size for file in files if file.is_file())
        held = 0 if size > indexed_examples.HELD else indexed_examples.HELD // len(files)
        parts: list[Sequence[Any]] = []
        begin = 0
        for file in files:
            make = partial(_example, self.rows, split, begin)
            parts.append(container_of(file).examples(file, self.rows.columns.values(), make, held))
            begin += len(parts[-1])
        if not begin:
            raise DataError(
                f"{path}: empty split '{split}': it holds no row. Expected rows with the columns "
                f"{', '.join(self.rows.columns.values())}."
            )
        counts = sum((Counter(getattr(part, "counts", {})) for part in parts), Counter())
        if left_out := counts["left_out"]:
            log.info("%s: left out: %d rows that give no example", path, left_out)
        if len(parts) == 1:
            return parts[0]
        if any(isinstance(part, View) for part in parts):
            return _Joined(parts, counts)
        return Examples(itertools.chain(*parts), counts)


def _example(rows: RowReader, split: str, begin: int, row: Mapping[str, Any], position: int, place: Place) -> Any:
    return rows.example_of(row, f"{split}:{begin + position}", place)


def files_of(path: Path) -> list[Path]:
    """Return the files of a split, in the order of their names.

    Raises:
        DataError: there is none, or only some of the parts that their names count.
    """
    if "*" in path.name:
        files = sorted(each for each in path.parent.glob(path.name) if _is_data(each))
    elif (saved := saved_files(path)) is not None:
        files = saved
    elif path.is_dir():
        files = sorted(each for each in path.iterdir() if _is_data(each))
    else:
        return [path]
    if not files:
        raise DataError(f"{path}: there is no file of rows: none ends with {', '.join(CONTAINERS)}.")
    _check_parts(path, files)
    return files


def _check_parts(path: Path, files: Sequence[Path]) -> None:
    """Refuse files whose names count more parts than there are, as after a download that has not ended. Those that a
    pattern leaves out are not missed.
    """
    parts: dict[tuple[str, ...], dict[int, re.Match[str]]] = {}
    for file in files:
        if part := _PART.fullmatch(file.name):
            parts.setdefault((part[1], part[3], file.suffix), {})[int(part[2])] = part
    for of_file in parts.values():
        part = next(iter(of_file.values()))
        count = int(part[3])
        first = int(count in of_file)  # some count from 1
        names = [
            f"{part[1]}-{number:0{len(part[2])}}-of-{part[3]}{part[4]}"
            for number in range(first, first + count)
            if number not in of_file
        ]
        if missing := [name for name in names if "*" not in path.name or fnmatch.fnmatchcase(name, path.name)]:
            raise DataError(
                f"{path}: {len(missing)} of {count} parts are missing, '{missing[0]}' for one. Download them, from the "
                "hub without HF_HUB_OFFLINE; or name those that are meant."
            )


def container_of(path: Path) -> Container:
    """Return the container of a file, by its suffix.

    Raises:
        DataError: the suffix is unknown.
    """
    kind = CONTAINERS.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path}: what kind of file is it? Its name ends with none of {', '.join(CONTAINERS)}. Rename it, or "
            "convert it."
        )
    return kind()


def _is_data(path: Path) -> bool:
    of_rows = path.suffix.lower() in CONTAINERS and not path.name.startswith(".") and path.name not in NOTES
    return of_rows and path.is_file() and saved_files(path.parent) is None


class _Joined(View[Any]):
    """The examples of several files as one sequence."""

    def __init__(self, parts: Sequence[Sequence[Any]], counts: Mapping[str, int]) -> None:
        self._parts, self.counts = parts, dict(counts)
        self._ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def at(self, place: int) -> Any:
        part = bisect_right(self._ends, place)
        return self._parts[part][place - (self._ends[part - 1] if part else 0)]
