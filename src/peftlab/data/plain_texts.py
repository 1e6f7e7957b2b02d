"""Plain text files: every line is a text, or every paragraph; short ones may be joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.indexed_examples import Index, Line, LinesOfFile
from peftlab.errors import DataError
from peftlab.tasks.inputs.texts import Text


class _Piece(NamedTuple):
    """Successive lines that make up a text."""

    first: Line
    lines: list[str]
    """Their contents, without white space around them; none is empty."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class PlainTexts:
    """How to read plain text in UTF-8, without labels. White space around lines is left out, and so are blank lines."""

    pair: ClassVar[None] = None

    unit: Literal["line", "paragraph"] = "line"
    """What a text is: a line, or the lines up to a blank one."""
    characters: int | None = Field(default=None, ge=1)
    """Successive lines or paragraphs are joined to texts of at most this many characters, so that rows are full: five
    characters are about one token of English. A longer one is a text by itself. None: each is."""

    def read(self, files: Mapping[str, Path]) -> dict[str, Sequence[Text]]:
        """Return the texts of each split, with the ids ``split:0``, ``split:1``, ...

        Those of large files are read again when they are accessed.

        Raises:
            DataError: a file cannot be read, is no UTF-8, or has no text; the message names it.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def _read_file(self, split: str, path: Path) -> Sequence[Text]:
        file = LinesOfFile(path)
        index = Index(path, partial(_parsed, split, path))
        texts: list[Text] = []
        for piece in self._pieces(file):
            if file.is_large:
                index.add(piece.first.offset, piece.first.number)
            else:
                texts.append(_text(piece.lines, f"{split}:{len(texts)}", path, piece.first.number))
        if not (texts or index):
            raise DataError(f"{path}: empty split '{split}': the file holds no text. Expected one a line.")
        return index.examples(file.state, file.sha256) if file.is_large else texts

    def _pieces(self, lines: LinesOfFile) -> Iterator[_Piece]:
        """Yield the lines of each text."""
        piece: _Piece | None = None
        size = 0
        for unit in self._units(lines):
            length = sum(len(line) + 1 for line in unit.lines)  # with the line ends between
            if piece is not None and self.characters is not None and size + length - 1 <= self.characters:
                piece.lines.extend(unit.lines)
                size += length
                continue
            if piece is not None:
                yield piece
            piece, size = unit, length
        if piece is not None:
            yield piece

    def _units(self, lines: LinesOfFile) -> Iterator[_Piece]:
        """Yield each line, or the lines of each paragraph."""
        unit: _Piece | None = None
        for line in lines:
            content = line.content.strip()
            if unit is not None and (self.unit == "line" or not content):
                yield unit
                unit = None
            if content:
                unit = unit or _Piece(line, [])
                unit.lines.append(content)
        if unit is not None:
            yield unit


def _parsed(split: str, path: Path, lines: bytes, place: int, number: int) -> Text:
    """Return the text in some lines, which were read before and are UTF-8."""
    contents = [line.strip() for line in lines.decode().split("\n")]
    return _text([content for content in contents if content], f"{split}:{place}", path, number)


def _text(lines: Sequence[str], id: str, path: Path, number: int) -> Text:
    return Text(id, "\n".join(lines), None, file=str(path), line=number)
