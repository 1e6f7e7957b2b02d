"""Column files (CoNLL): one word per line, its tag in another column, a blank line between sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.column_lines import begins_document, ends_sentence, fields_of
from peftlab.data.separators import Separator, setting
from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError
from peftlab.scores.bio import Scheme, TagError, detect_scheme, explain, is_tag, repaired_bio, respelt, to_bio
from peftlab.tasks.inputs.words import Sentence

log = logging.getLogger("peftlab")

_LONG = 500
"""Words above which a sentence looks suspicious: the longest of CoNLL-2003 has 124."""

_SEPARATORS = (None, "\t", ",", ";", "|")

SCHEMES: Mapping[str, Scheme] = {
    "iob1": "iob1",
    "bio": "bio",
    "bioes": "bioes",
    "bilou": "bioes",
    "bmes": "bioes",
    "bmewo": "bioes",
    "ioe1": "ioe1",
    "ioe2": "ioe2",
}
"""Schemes by their names."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Columns:
    """How to read column files, such as those of CoNLL-2003 and WNUT-17.

    Blank lines (also of spaces and tabs only) and ``-DOCSTART-`` lines end a sentence; if a file has the latter, the
    ``group`` of a sentence is its document, ``0``, ``1``, ... A line that starts with ``#`` is a comment, unless it has
    as many columns as the file and a tag in its place: ``#`` also occurs as a word. Only the line feed ends a line (a
    carriage return before it is dropped); in a file without line feeds the carriage return does.
    """

    example: ClassVar[type] = Sentence
    pair: ClassVar[None] = None

    word_column: int = 0
    """The column of the word: counted from 0, or backwards from -1, the last."""
    tag_column: int = -1
    """The column of the tag: counted from 0, or backwards from -1, the last."""
    separator: Annotated[Separator, Field(min_length=1)] | None = None
    """The exact separator of two columns (such as ``tab``); null for any run of spaces or tabs."""
    scheme: Literal["auto", "iob1", "bio", "bioes", "bilou", "bmes", "bmewo", "ioe1", "ioe2"] = "auto"
    """The scheme of the tags in the files; auto: the one in which most sentences of all files are valid."""
    invalid_tags: Literal["error", "repair"] = "error"
    """Treatment of a tag that its scheme does not allow at its position: stop, or read it as the CoNLL scorer does."""
    documents: bool = False
    """Whether documents, which ``-DOCSTART-`` lines begin, are held out whole, and compared between splits."""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Sentence]]:
        """Return the sentences of each split, with BIO tags and the ids ``split:0``, ``split:1``, ...

        Args:
            files: the file of each split.

        Raises:
            DataError: a file is missing, empty or not UTF-8, its columns do not match, or a tag is wrong; the message
                names the file and the line.
        """
        splits = {split: self._read_file(split, path) for split, path in files.items()}
        convert = self._converter(splits)
        return {split: [replace(each, tags=convert(each)) for each in sentences] for split, sentences in splits.items()}

    def _read_file(self, split: str, path: Path) -> list[Sentence]:
        """Return the sentences of a file with their tags as written, all well-formed."""
        lines = lines_of(read_text(path))
        columns, first = self._count_columns(path, lines)
        has_documents = any(map(begins_document, lines))
        if self.documents and not has_documents:
            raise DataError(
                f"{path}: data.format.documents=true, and no line begins with -DOCSTART-: there are no documents. "
                "Put such a line before each, or set data.format.documents=false"
            )
        document, begun = 0, True
        sentences: list[Sentence] = []
        words: list[str] = []
        tags: list[str] = []
        numbers: list[int] = []
        for number, line in enumerate([*lines, ""], start=1):
            if ends_sentence(line):
                if words:
                    document += not begun
                    group = str(document) if has_documents else None
                    group = f"{split}:{group}" if self.documents else group
                    sentences.append(
                        Sentence(f"{split}:{len(sentences)}", words, tags, str(path), numbers, group=group)
                    )
                    words, tags, numbers, begun = [], [], [], True
                if sentences and begins_document(line):
                    begun = False
                continue
            fields = fields_of(line, self.separator)
            fits = len(fields) == columns
            if line.startswith("#") and not (fits and is_tag(fields[self.tag_column])):
                continue
            if not fits:
                raise DataError(
                    f"{path}:{number}: expected {columns} columns as in line {first}, found {len(fields)}. Mend the "
                    f"line, or {self._other_separator(lines)}."
                )
            word, tag = fields[self.word_column], fields[self.tag_column]
            if wrong := self._flaw(line, word, tag, lines):
                raise DataError(f"{path}:{number}: {wrong}")
            words.append(word)
            tags.append(tag)
            numbers.append(number)
        if not sentences:
            raise DataError(
                f"{path}: empty split '{split}': the file holds no sentence. Expected a word and its tag a line and a "
                f"blank line between sentences."
            )
        _doubt_long(sentences)
        return sentences

    def _count_columns(self, path: Path, lines: Sequence[str]) -> tuple[int, int]:
        """Return the number of columns, and that of the line that sets it, the first that cannot be a comment."""
        for number, line in enumerate(lines, start=1):
            if ends_sentence(line) or line.startswith("#"):
                continue
            columns = len(fields_of(line, self.separator))
            for key, column in (("word_column", self.word_column), ("tag_column", self.tag_column)):
                if not -columns <= column < columns:
                    raise DataError(
                        f"{path}:{number}: data.format.{key}={column} is out of range, the line has {columns} columns. "
                        f"Allowed are {-columns} to {columns - 1}; or {self._other_separator(lines)}."
                    )
            if self.word_column % columns == self.tag_column % columns:
                raise DataError(
                    f"{path}:{number}: word and tag are the same column of {columns}. Set data.format.word_column="
                    f"{self.word_column} and data.format.tag_column={self.tag_column} to two columns, or "
                    f"{self._other_separator(lines)}."
                )
            return columns, number
        return 0, 0

    def _other_separator(self, lines: Sequence[str]) -> str:
        """Return advice to set the separator that gives all lines the same number of columns and a tag in its place."""
        lines = [line for line in lines if not ends_sentence(line)]
        for separator in _SEPARATORS:
            rows = [fields_of(line, separator) for line in lines]
            widths = {len(fields) for fields in rows}
            if separator != self.separator and len(widths) == 1 and widths != {1} and self._are_tags(rows):
                return f"set {setting('data.format.separator', separator)}"
        return "set data.format.separator to what separates the columns"

    def _are_tags(self, rows: Sequence[Sequence[str]], column: int | None = None) -> bool:
        """Return whether most rows have a tag in `column`, by default the tag column."""
        column = self.tag_column if column is None else column
        cells = [fields[column] for fields in rows if -len(fields) <= column < len(fields)]
        return 2 * sum(is_tag(cell) or respelt(cell) is not None for cell in cells) > len(cells)

    def _flaw(self, line: str, word: str, tag: str, lines: Sequence[str]) -> str | None:
        """Return the error in a line that has the right number of columns; None if it has none."""
        if "\r" in line and self._are_rows(line.split("\r")):
            return (
                "carriage returns stand between words: lines of an old Macintosh among others. Write line feeds in "
                "place of them."
            )
        if not word:
            return "the word is empty. Write one, or remove the line."
        return None if is_tag(tag) else self._explain_tag(tag, lines)

    def _are_rows(self, parts: Sequence[str]) -> bool:
        rows = [fields_of(part, self.separator) for part in parts if part.strip(" \t")]
        widths = {len(fields) for fields in rows}
        return len(rows) > 1 and len(widths) == 1 and widths != {1} and self._are_tags(rows)

    def _explain_tag(self, tag: str, lines: Sequence[str]) -> str:
        """Return what is wrong: the tag itself or, if most cells of its column are not tags, the column."""
        rows = [fields_of(line, self.separator) for line in lines if not ends_sentence(line)]
        if is_tag(tag.strip()):
            return f"{explain(tag)} Or {self._other_separator(lines)}."
        if self._are_tags(rows):
            return explain(tag)
        columns = min(map(len, rows))
        others = [column for column in range(columns) if self._are_tags(rows, column)]
        column = f"{others[-1]}, which has tags" if others else f"{self.tag_column} to the column of the tags"
        return f"{explain(tag)} Or set data.format.tag_column={column}: most cells of this one are not tags."

    def _converter(self, splits: Mapping[str, list[Sentence]]) -> Callable[[Sentence], list[str]]:
        """Return the function that converts the tags of a sentence to BIO."""
        if self.invalid_tags == "repair":  # repairing does not depend on the scheme
            return lambda sentence: repaired_bio(sentence.tags)
        detected = self.scheme == "auto"
        if detected:
            scheme = detect_scheme(sentence.tags for sentences in splits.values() for sentence in sentences)
            if scheme != "bio":
                log.info("the tags are of the %s scheme (detected), and are read as bio", scheme)
        else:
            scheme = SCHEMES[self.scheme]

        def convert(sentence: Sentence) -> list[str]:
            try:
                return to_bio(sentence.tags, scheme)
            except TagError as error:
                raise DataError(
                    f"{sentence.file}:{sentence.lines[error.position]}: {error.reason}"
                    f"{' (detected)' if detected else ''}. Mend the tag, set data.format.scheme={', '.join(SCHEMES)}, "
                    f"or set data.format.invalid_tags=repair to read it as the CoNLL scorer does."
                ) from None

        return convert


def _doubt_long(sentences: Sequence[Sentence]) -> None:
    """Warn if a file seems to lack the blank lines between its sentences."""
    longest = max(sentences, key=lambda sentence: len(sentence.words))
    if len(longest.words) > _LONG:
        log.warning(
            "%s: a sentence of %d words, lines %d to %d: are blank lines between sentences missing?",
            longest.file,
            len(longest.words),
            longest.lines[0],
            longest.lines[-1],
        )
