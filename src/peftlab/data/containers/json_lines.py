"""JSON lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peftlab.data.containers.container import Make
from peftlab.data.examples import Examples
from peftlab.data.indexed_examples import Index, LinesOfFile
from peftlab.data.json_objects import read_object
from peftlab.data.rows.row_reader import Place


@dataclass(frozen=True)
class JsonLinesContainer:
    """Reads JSON lines in UTF-8, or in UTF-16 with a byte order mark; blank lines are skipped."""

    def examples(self, path: Path, columns: Collection[str], make: Make, held: int) -> Sequence[Any]:
        """Return the examples of the lines, see `Container`."""
        return examples_of_lines(LinesOfFile(path), str(path), columns, make, held)


def examples_of_lines(
    file: LinesOfFile, shown: str, columns: Collection[str], make: Make, held: int, is_copy: bool = False
) -> Sequence[Any]:
    """Return the examples of the lines of a file.

    Args:
        file: the file.
        shown: what messages and examples call it.
        columns: see `Container`; `make` and `held` likewise.
        is_copy: whether the file is a copy of another, whose digest is that of the data.
    """
    examples: list[Any] = []
    left_out = 0
    index = Index(file.path, partial(_parsed, shown, make))
    indexed = not held and file.is_divided
    expected = f"with {', '.join(repr(column) for column in columns)}"
    lines = iter(file)
    for line in lines:
        if not line.content.strip():
            continue
        place = Place(shown, line.number)
        row = read_object(line.content, str(place), expected, (following.content for following in lines))
        example = make(row, len(examples) + len(index), place)
        if example is None:
            left_out += 1
        elif indexed:
            index.add(line.offset, line.number)
        else:
            examples.append(example)
    counts = {"left_out": left_out}
    digest = None if is_copy else file.sha256
    return index.examples(file.state, digest, counts) if indexed else Examples(examples, counts)


def _parsed(shown: str, make: Make, lines: bytes, position: int, number: int) -> Any:
    """Return the example in the first of some lines, which was read before and is well-formed."""
    return make(json.loads(lines.partition(b"\n")[0]), position, Place(shown, number))
