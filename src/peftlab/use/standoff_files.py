"""Entities in text files, written as BRAT standoff: by the places of their characters."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peftlab.data.sentence_spans import sentence_spans
from peftlab.data.text_files import read_text
from peftlab.errors import UserError
from peftlab.storage.atomic import replacing
from peftlab.tasks.ner import Ner

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun


def annotate(run: FinishedRun, paths: Sequence[str], folder: str | Path) -> Iterator[Path]:
    """Write the entities that a run's model finds in text files, and yield each file of entities when it is written.

    Texts are divided into sentences as the formats of standoff do it, and not if the run was trained on whole documents
    of them. Offsets count the characters of the text as it is in its file.

    Args:
        run: a run of named entities.
        paths: files called ``*.txt``, or folders that hold some.
        folder: gets ``NAME.txt`` and ``NAME.ann`` for each file.

    Raises:
        UserError: the run finds no entities, there is no such file, two have one name, one is there already, or one
            cannot be read.
        DiskError: a file cannot be written.
    """
    if not isinstance(run.parts.task, Ner):
        raise UserError(f"--standoff: task={run.parts.task.name} finds no entities in texts; a run of task=ner does")
    out = Path(folder)
    files = [file for path in paths for file in _files(Path(path))]
    for name, number in Counter(file.name for file in files).items():
        if number > 1:
            raise UserError(f"{number} files are called {name}: give each a name of its own")
        if there := next((each for each in (out / name, (out / name).with_suffix(".ann")) if each.exists()), None):
            raise UserError(f"'{there}' is there already: name a new folder")
    by_sentence = getattr(run.parts.data.format, "sentences", True)
    for file in files:
        text = read_text(file)
        spans = sentence_spans(text) if by_sentence else [(0, len(text))]
        answers = run.predict([text[start:end] for start, end in spans])
        found = [
            (one["type"], start + one["start"], start + one["end"])
            for (start, _), answer in zip(spans, answers, strict=True)
            for one in answer["entities"]
        ]
        lines = [
            f"T{number}\t{type_} {start} {end}\t{' '.join(text[start:end].split())}\n"
            for number, (type_, start, end) in enumerate(found, start=1)
        ]
        annotated = (out / file.name).with_suffix(".ann")
        with replacing(annotated, elsewhere="another --standoff") as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
        with replacing(out / file.name, elsewhere="another --standoff") as temporary:
            shutil.copyfile(file, temporary)
        yield annotated


def _files(path: Path) -> list[Path]:
    found = sorted(path.glob("*.txt")) if path.is_dir() else [path] * (path.suffix == ".txt")
    if not found or not path.exists():
        raise UserError(f"--standoff {path}: expected a file *.txt, or a folder that holds some")
    return found
