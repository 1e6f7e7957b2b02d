"""BRAT standoff: a folder of texts, ``NAME.txt``, with their entities in ``NAME.ann``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.examples import Examples
from peftlab.data.standoff import Document, Mention, Offsets, Standoff, check_type, whole
from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError
from peftlab.tasks.inputs.words import Sentence


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Brat:
    """How to read BRAT standoff.

    An entity is a line ``T1<tab>TYPE START END<tab>TEXT``, whose pieces, if there are several, have ``;`` between them.
    Offsets count the characters of the text as it is in its file, carriage returns included; the end is behind the
    last one. Other lines (relations, events, attributes, notes) are left out and counted. A text is a document: it is
    held out whole.
    """

    example: ClassVar[type] = Sentence
    takes_folders: ClassVar[bool] = True
    pair: ClassVar[None] = None
    documents: ClassVar[bool] = True

    offsets: Offsets = "characters"
    """What the offsets count."""
    overlaps: Literal["error", "longest"] = "error"
    """Treatment of entities that overlap or consist of several pieces: stop; or keep the longest, and leave out and
    count the others."""
    sentences: bool = True
    """Whether an example is a sentence, found by rule; else it is a whole document."""

    def read(self, files: Mapping[str, Path]) -> dict[str, Examples[Sentence]]:
        """Return the sentences of each split, with the ids ``split:0``, ``split:1``, ..., in the order of the names.

        Args:
            files: the folder of each split.

        Raises:
            DataError: a folder has no text, a text no file of entities or the other way round, a line is malformed, or
                an entity is not where it says; names file and line.
        """
        return {split: self._read_folder(split, path) for split, path in files.items()}

    def _read_folder(self, split: str, path: Path) -> Examples[Sentence]:
        if not path.is_dir():
            raise DataError(
                f"{path}: is not a folder; expected one with texts, NAME.txt, and their entities, NAME.ann."
            )
        counts: Counter[str] = Counter()
        documents = whole(_documents(path, counts), split, path)
        read = Standoff(self.offsets, self.overlaps, self.sentences).read(split, documents, counts)
        return Examples(read, {name: count for name, count in counts.items() if count} | {"documents": len(documents)})


def _documents(folder: Path, counts: Counter[str]) -> Iterator[Document]:
    for file in sorted(each for each in folder.iterdir() if each.suffix in (".txt", ".ann") and each.name[0] != "."):
        other = file.with_suffix(".ann" if file.suffix == ".txt" else ".txt")
        if not other.is_file():
            what = "its entities" if file.suffix == ".txt" else "its text"
            raise DataError(
                f"{file}: {what}, {other.name}, are not beside it; a text without entities has an empty file"
            )
        if file.suffix == ".txt":
            yield Document(file.stem, read_text(file), list(_mentions(other, counts)), str(file))


def _mentions(file: Path, counts: Counter[str]) -> Iterator[Mention]:
    for number, line in enumerate(lines_of(read_text(file)), start=1):
        if not line.strip():
            continue
        if not line.startswith("T"):
            counts["other_annotations"] += 1
            continue
        place = f"{file}:{number}"
        try:
            _, middle, text = line.split("\t", 2)
            type_, places = middle.split(" ", 1)
            pieces = tuple((int(start), int(end)) for start, end in (piece.split() for piece in places.split(";")))
        except ValueError:
            raise DataError(
                f"{place}: expected T1, then TYPE START END, then the text, between tabs, such as 'T1\\tDisease 0 "
                f"6\\tasthma'"
            ) from None
        yield Mention(check_type(type_, place), pieces, text, place)
