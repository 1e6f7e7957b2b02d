"""Parquet files, masked row by row."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from peftlab.data.masked.tally import Tally
from peftlab.errors import ConfigError, DataError
from peftlab.personal_data.objects import masked_object

ROWS = 1000
"""Rows that are in memory at once."""


def masked_parquet(path: Path, tally: Tally) -> Iterator[bytes]:
    """Yield a file with the same columns and types, its texts masked, nested ones included."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(f'{path}: reading it needs the package pyarrow: pip install "peftlab[parquet]"') from None
    written = io.BytesIO()
    try:
        with parquet.ParquetFile(path) as file, parquet.ParquetWriter(written, file.schema_arrow) as writer:
            number = 0
            for batch in file.iter_batches(ROWS):
                rows = []
                for row in batch.to_pylist():
                    number += 1
                    rows.append(masked_object(row, partial(tally.of, place=f"{path}:{number}")))
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=file.schema_arrow))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a Parquet file ({str(error)[:200]}). Write it again.") from None
    yield written.getvalue()
