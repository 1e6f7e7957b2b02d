"""Tables with typed columns: Parquet and Arrow files, read by pyarrow a thousand rows at a time.

The rows of a large table are written once into the cache as JSON lines and are read from there: in a table, a row can
only be read with all those that are compressed together with it, and training reads rows in random order.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from peftlab.data.containers.container import Make
from peftlab.data.containers.features import DESCRIPTION, Naming, namings
from peftlab.data.containers.json_lines import examples_of_lines
from peftlab.data.examples import Examples
from peftlab.data.indexed_examples import LinesOfFile
from peftlab.data.rows.row_reader import Place
from peftlab.data.text_files import opened
from peftlab.errors import ConfigError, DataError
from peftlab.sources import ANOTHER_CACHE, cache_root
from peftlab.storage.atomic import replacing
from peftlab.storage.digests import file_sha256

if TYPE_CHECKING:
    import pyarrow

ROWS = 1000
"""Rows that are decoded at once."""

FORMAT = 2
"""Version of the cached rows; increase it when the values that a table gives change."""

_PAGE = 2**20
"""Bytes of a column that are read from the disk at once."""

_LONGEST_NAMES = 2**24
"""Bytes of texts, and number of entries, in the description of a Parquet file; one that claims more is refused."""

_LARGEST_BATCH = 2**31
"""Bytes that the decoded rows of one batch may take."""


@dataclass(frozen=True)
class TableContainer(ABC):
    """Reads tables. Columns of dates, times and decimals are read as text, categories as their values, and numbers of
    labels that the library ``datasets`` has named as their names.
    """

    def examples(self, path: Path, columns: Collection[str], make: Make, held: int) -> Sequence[Any]:
        """Return the examples of the rows, see `Container`."""
        if held:
            examples: list[Any] = []
            size, number = 0, 0
            for number, (row, bytes_of_row) in enumerate(self._rows(path, columns), start=1):
                if (example := make(row, len(examples), Place(str(path), number))) is not None:
                    examples.append(example)
                size += bytes_of_row
                if size > held:
                    break
            else:
                return Examples(examples, {"left_out": number - len(examples)})
        lines = LinesOfFile(self._as_lines(path, columns))
        return examples_of_lines(lines, str(path), columns, make, held=0, is_copy=True)

    def _as_lines(self, path: Path, columns: Collection[str]) -> Path:
        """Return a file in the cache with the needed columns of the rows as JSON lines; write it if it is missing.

        Raises:
            DataError: as `examples`, or the table has changed meanwhile.
            DiskError: it cannot be written.
        """
        description = path.with_name(DESCRIPTION)  # may name the labels
        files = [file for file in (path, description) if file.is_file()]
        digests = [*map(file_sha256, files)]
        parts = [FORMAT, *digests, sorted(columns)]
        lines = cache_root() / "rows" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.jsonl"
        if not lines.is_file():
            lines.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{lines}.lock"):
                if not lines.is_file():  # another process may have written it meanwhile
                    with replacing(lines, elsewhere=ANOTHER_CACHE) as temporary, temporary.open("w") as file:
                        file.writelines(f"{json.dumps(row)}\n" for row, _ in self._rows(path, columns))
                        if digests != [*map(file_sha256, files)]:  # else they would be the old table's for good
                            raise DataError(f"{path}: the file has changed while it was read. Start the run again.")
        return lines

    def _rows(self, path: Path, columns: Collection[str]) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the needed columns of each row, as JSON has them, and about how many bytes they take."""
        pyarrow = _pyarrow(path)
        if not path.is_dir():
            with opened(path):  # says what else it is, or why it cannot be read
                pass
        number = 0
        with _explained(path, self.kind) as progress:
            for batch, names in self._batches(path, columns):
                batch.validate(full=True)  # offsets that lead out of the file, text that is no UTF-8
                if (size := sum(map(_written_out, batch.columns))) > _LARGEST_BATCH:
                    raise DataError(
                        f"{path}:{number + 1}: {batch.num_rows:,} rows from here take {size / 2**30:.1f} GiB. "
                        "Shorten their texts."
                    )
                for begin in range(0, batch.num_rows, ROWS):
                    part = batch.slice(begin, ROWS)
                    of_row = sum(map(_written_out, part.columns)) // max(1, part.num_rows)
                    readable = [_plain(pyarrow, column) for column in part.columns]
                    for values in zip(*readable, strict=True) if readable else [()] * part.num_rows:
                        number += 1
                        progress[0] = number
                        yield _named(path, number, dict(zip(part.schema.names, values, strict=True)), names), of_row

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind of file, for messages."""

    @abstractmethod
    def _batches(self, path: Path, columns: Collection[str]) -> Iterator[tuple[pyarrow.RecordBatch, dict[str, Naming]]]:
        """Yield the needed columns in parts, and what names the labels in them."""


@dataclass(frozen=True)
class ParquetContainer(TableContainer):
    """Reads Parquet files, of which a thousand rows at a time are in memory."""

    @property
    def kind(self) -> str:
        """The kind of file, for messages."""
        return "Parquet file"

    def _batches(self, path: Path, columns: Collection[str]) -> Iterator[tuple[pyarrow.RecordBatch, dict[str, Naming]]]:
        from pyarrow import parquet

        limits = {"thrift_string_size_limit": _LONGEST_NAMES, "thrift_container_size_limit": _LONGEST_NAMES}
        with parquet.ParquetFile(path, **limits) as file:
            metadata = file.metadata
            names = namings(path, file.schema_arrow.metadata)
            needed = _needed(path, file.schema_arrow.names, columns)
            leaves = [file.schema.column(n) for n in range(len(file.schema))]
        # a text that many rows share stays one until its rows are known to fit in memory
        shared = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        with parquet.ParquetFile(path, metadata=metadata, read_dictionary=shared, buffer_size=_PAGE, **limits) as file:
            for group in range(metadata.num_row_groups):  # each has dictionaries of its own
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=needed):
                    yield batch, names


@dataclass(frozen=True)
class ArrowContainer(TableContainer):
    """Reads Arrow files, and streams of the same format, as the library ``datasets`` saves them."""

    @property
    def kind(self) -> str:
        """The kind of file, for messages."""
        return "Arrow file"

    def _batches(self, path: Path, columns: Collection[str]) -> Iterator[tuple[pyarrow.RecordBatch, dict[str, Naming]]]:
        import pyarrow

        # mapped, a file that claims to have parts of absurd sizes makes no room for them
        with pyarrow.memory_map(str(path)) as file:
            is_stream = file.read(len(_ARROW)) != _ARROW
            file.seek(0)
            schema = (pyarrow.ipc.open_stream if is_stream else pyarrow.ipc.open_file)(file).schema
            names = namings(path, schema.metadata)
            needed = _needed(path, schema.names, columns)
            options = pyarrow.ipc.IpcReadOptions(included_fields=[schema.names.index(name) for name in needed])
            file.seek(0)
            if is_stream:
                for batch in pyarrow.ipc.open_stream(file, options=options):
                    yield batch.select(needed), names
                return
            reader = pyarrow.ipc.open_file(file, options=options)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number).select(needed), names


_ARROW = b"ARROW1"
"""How a file begins that is no stream."""


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            f'{path}: reading it needs the package pyarrow, which is missing: pip install "peftlab[parquet]"'
        ) from None
    return pyarrow


@contextmanager
def _explained(path: Path, kind: str) -> Iterator[list[int]]:
    """Turn the errors of pyarrow within into a DataError; the block keeps the number of rows so far in the list."""
    import pyarrow

    progress = [0]
    try:
        yield progress
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        place = f"{path}:{progress[0] + 1}" if progress[0] else str(path)
        raise DataError(
            f"{place}: cannot be read as {'an' if kind[0] in 'AEIOU' else 'a'} {kind} ({reason[:300]}). The file is "
            "damaged or of another kind: write or download it again."
        ) from None


def _needed(path: Path, names: Sequence[str], columns: Collection[str]) -> list[str]:
    """Return the columns of a table that are needed: whole ones, of which parts may be named; all if none is named.

    Raises:
        DataError: the table has several of a name.
    """
    wanted = {column if column in names else column.partition(".")[0] for column in columns}
    needed = [name for name in names if name in wanted]
    for name in needed:
        if needed.count(name) > 1:
            raise DataError(f"{path}: {needed.count(name)} columns are called '{name}'. Rename them.")
    # without any, all are read, so that the message about a missing one can name them
    return needed if needed and len(needed) == len(wanted) else list(dict.fromkeys(names))


def _written_out(array: Any) -> int:
    """Return about how many bytes an array takes when values that its rows share are written out in each."""
    from pyarrow import compute, types

    kind = array.type
    if types.is_struct(kind):
        return sum(map(_written_out, array.flatten()))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return 8 * len(array) + _written_out(array.flatten())
    if not types.is_dictionary(kind):
        return int(array.nbytes)
    shared = array.dictionary
    if types.is_primitive(shared.type):
        return len(array) * shared.type.bit_width // 8
    if types.is_string(shared.type) or types.is_binary(shared.type) or types.is_large_string(shared.type):
        return compute.sum(compute.take(compute.binary_length(shared), array.indices)).as_py() or 0
    return len(array) * _written_out(shared)  # at most


def _plain(pyarrow: Any, column: Any) -> list[Any]:
    """Return the values of a column as JSON has them."""
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()  # much faster than value by value
    kind = column.type
    if pyarrow.types.is_temporal(kind) or pyarrow.types.is_decimal(kind):
        return list(column.cast(pyarrow.string()).to_pylist())
    values = column.to_pylist()
    if not _has_json(pyarrow.types, kind):
        return [json.loads(json.dumps(one, default=_as_json)) for one in values]
    return list(values)


def _as_json(one: Any) -> Any:
    """Return a value that JSON lacks as a text; bytes as what no reader takes for one."""
    return {"bytes": len(one)} if isinstance(one, bytes) else str(one)


def _has_json(types: Any, kind: Any) -> bool:
    """Return whether values of a type of Arrow come as JSON has them."""
    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _has_json(types, kind.value_type)
    if types.is_struct(kind):
        return all(_has_json(types, kind.field(n).type) for n in range(kind.num_fields))
    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(texts or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _named(path: Path, number: int, row: dict[str, Any], names: dict[str, Naming]) -> dict[str, Any]:
    """Return a row with the names of labels in place of their numbers."""
    for column, naming in names.items():
        if column in row:
            try:
                row[column] = naming(row[column])
            except ValueError as error:
                raise DataError(f"{path}:{number}: '{column}': {error}. Save the data again.") from None
    return row
