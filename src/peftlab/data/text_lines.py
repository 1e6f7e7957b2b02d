"""Texts without labels in a file of lines: plain ones, or JSON objects whose keys may be those of the training data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peftlab.data.form import form_of
from peftlab.data.indexed_examples import LinesOfFile
from peftlab.data.json_objects import read_object
from peftlab.errors import DataError
from peftlab.tasks.task import Task


def texts_in(path: Path, task: Task, format: Any, name: str) -> Iterator[Any]:
    """Yield the example in each line of a ``.jsonl`` file, or in each line of another; blank lines are left out.

    Args:
        path: the file.
        task: makes the examples.
        format: the format of the training data, whose keys an object may have.
        name: the start of the examples' ids.

    Raises:
        DataError: a line holds no such example; the message names it.
    """
    lines, form = iter(LinesOfFile(path)), form_of(format)
    for line in lines:
        if not line.content.strip():
            continue
        fields = {"text": line.content.strip()}
        where = f"{path}:{line.number}"
        if path.suffix == ".jsonl":
            fields = read_object(line.content, where, "with 'text'", (following.content for following in lines))
        try:
            yield task.from_input(form.usual(fields), f"{name}:{line.number}")
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
