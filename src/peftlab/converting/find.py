"""Find the converter of a format by its name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from peftlab.converting import formats as room


def formats() -> list[str]:
    """Return the names of all formats."""
    return sorted(module.name for module in pkgutil.iter_modules(room.__path__))


def convert(name: str, inputs: Sequence[Path], folder: Path) -> None:
    """Convert files in the format `name` to a pretrained model's folder.

    The bytes that are written depend on `inputs` alone, neither on the machine nor on the time.

    Args:
        name: one of `formats`.
        inputs: the files.
        folder: the folder to make.

    Raises:
        SourceError: the files are not of this format, or not all that it needs.
    """
    folder.mkdir()
    importlib.import_module(f"{room.__name__}.{name}").convert(inputs, folder)
