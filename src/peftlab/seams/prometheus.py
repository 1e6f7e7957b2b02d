"""prometheus-client's: where the values of metrics are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which processes of a server find the folder of their values."""


@contextmanager
def values_in_files(folder: Path) -> Iterator[None]:
    """In the block, metrics that are made here, and in processes started here, keep their values in `folder`.

    The library decides it when it is imported, by the environment alone, which may be long before.
    """
    from prometheus_client import values

    module = cast(Any, values)  # partly without types
    before = module.ValueClass
    os.environ[FOLDER] = str(folder)
    module.ValueClass = module.MultiProcessValue()
    try:
        yield
    finally:
        module.ValueClass = before
        del os.environ[FOLDER]
