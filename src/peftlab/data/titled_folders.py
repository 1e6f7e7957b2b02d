"""Folders of texts whose first line is their title."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.examples import Examples
from peftlab.data.folders import Folders
from peftlab.errors import DataError
from peftlab.tasks.inputs.source_target import SourceTarget


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class TitledFolders(Folders):
    """How to read a folder of folders of texts, each headed by its title: the text is the source, the title the
    target. What the folders are called plays no part.
    """

    example: ClassVar[type] = SourceTarget

    def read(self, files: Mapping[str, Path]) -> dict[str, Any]:
        """Return the texts of each split as `Folders` does, apart from their titles.

        Raises:
            DataError: as there, or a file has no line after its title; the message names it.
        """
        found = super().read(files)
        return {split: Examples(map(_titled, texts), getattr(texts, "counts", {})) for split, texts in found.items()}


def _titled(one: Any) -> SourceTarget:
    title, _, text = one.text.partition("\n")
    if not text.strip():
        raise DataError(f"{one.file}: there is no text after the first line, the title. Write one, or remove the file.")
    return SourceTarget(one.id, text.strip(), title.strip(), one.file)
