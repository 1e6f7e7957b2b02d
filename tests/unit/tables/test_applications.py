"""Tables of applications: their rows, from every kind of file, and their labels."""

from __future__ import annotations

import pytest

from peftlab.tables.applications import read_rows


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_typed_tables_are_read_whole(tmp_path, suffix):
    """Their columns are known only once they are read."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    table = pyarrow.table({"text": ["hi", "ho"], "label": [0, 1], "amount": [1.5, None]})
    file = tmp_path / f"applications.{suffix}"
    parquet.write_table(table, file) if suffix == "parquet" else feather.write_feather(table, file, "uncompressed")
    assert read_rows(file)[0] == table.to_pylist()
