"""Column files (CoNLL): a word a line, its tag in another column, a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.text_files import read_text
from peftlab.errors import DataError
from peftlab.tasks.bio import TAG_FORMS, Scheme, TagError, detect_scheme, is_tag, repaired_bio, to_bio
from peftlab.tasks.words import Sentence

# str.split() also splits at no-break and other Unicode spaces, which occur inside words
_FIELDS = re.compile(r"[^ \t]+")


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Columns:
    """How to read column files, such as those of CoNLL-2003 and WNUT-17.

    Blank lines (also of spaces and tabs only) and ``-DOCSTART-`` lines end a sentence. A line that starts with ``#`` is
    a comment, unless it has as many columns as the file and a tag in its place: ``#`` is also a word of real data. Only
    the line feed ends a line (a carriage return before it is dropped); files are UTF-8, with or without a byte order
    mark.
    """

    pair: ClassVar[None] = None

    word_column: int = 0
    """The column of the word: from 0, or from -1 backwards from the last."""
    tag_column: int = -1
    """The column of the tag: from 0, or from -1 backwards from the last."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What separates two columns, exactly (for instance a tab); null for any run of spaces or tabs."""
    scheme: Literal["auto", "iob1", "bio", "bioes"] = "auto"
    """The scheme of the tags in the files; auto finds it from all files together."""
    invalid_tags: Literal["error", "repair"] = "error"
    """What to do with a tag that its scheme does not allow at its place: stop, or read it as the CoNLL scorer does."""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Sentence]]:
        """Return the sentences of each split, with BIO tags and the ids ``split:0``, ``split:1``, ...

        Args:
            files: the file of each split.

        Raises:
            DataError: a file is missing, empty or not UTF-8, its columns do not fit, or a tag is wrong; the message
                names the file and the line.
        """
        splits = {split: self._read_file(split, path) for split, path in files.items()}
        convert = self._converter(splits)
        return {split: [replace(each, tags=convert(each)) for each in found] for split, found in splits.items()}

    def _read_file(self, split: str, path: Path) -> list[Sentence]:
        """Return the sentences of a file with their tags as they stand there, all well-formed."""
        lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
        columns, first = self._count_columns(path, lines)
        sentences: list[Sentence] = []
        words: list[str] = []
        tags: list[str] = []
        numbers: list[int] = []
        for number, line in enumerate([*lines, ""], start=1):
            if _ends_sentence(line):
                if words:
                    sentences.append(Sentence(f"{split}:{len(sentences)}", words, tags, str(path), numbers))
                    words, tags, numbers = [], [], []
                continue
            fields = self._fields(line)
            fits = len(fields) == columns
            if line.startswith("#") and not (fits and is_tag(fields[self.tag_column])):
                continue
            if not fits:
                raise DataError(
                    f"{path}:{number}: expected {columns} columns as in line {first}, found {len(fields)}. Mend the "
                    f"line, or set data.format.separator to what separates the columns."
                )
            word, tag = fields[self.word_column], fields[self.tag_column]
            if not word:
                raise DataError(f"{path}:{number}: the word is empty. Write one, or remove the line.")
            if not is_tag(tag):
                raise DataError(
                    f"{path}:{number}: {tag!r} is not a tag; allowed are {TAG_FORMS}. Mend it, or set "
                    f"data.format.tag_column={self.tag_column} to the column of the tags."
                )
            words.append(word)
            tags.append(tag)
            numbers.append(number)
        if not sentences:
            raise DataError(
                f"{path}: empty split '{split}': the file holds no sentence. Expected a word and its tag a line and a "
                f"blank line between sentences."
            )
        return sentences

    def _fields(self, line: str) -> list[str]:
        return _FIELDS.findall(line) if self.separator is None else line.split(self.separator)

    def _count_columns(self, path: Path, lines: list[str]) -> tuple[int, int]:
        """Return the number of columns and the number of the line that sets it, the first that is surely no comment."""
        for number, line in enumerate(lines, start=1):
            if _ends_sentence(line) or line.startswith("#"):
                continue
            columns = len(self._fields(line))
            for key, column in (("word_column", self.word_column), ("tag_column", self.tag_column)):
                if not -columns <= column < columns:
                    raise DataError(
                        f"{path}:{number}: data.format.{key}={column} is out of range, the line has {columns} columns. "
                        f"Allowed are {-columns} to {columns - 1}; or set data.format.separator."
                    )
            if self.word_column % columns == self.tag_column % columns:
                raise DataError(
                    f"{path}:{number}: word and tag are the same column of {columns}. Set data.format.word_column="
                    f"{self.word_column} and data.format.tag_column={self.tag_column} to two columns, or "
                    f"data.format.separator to what separates them."
                )
            return columns, number
        return 0, 0

    def _converter(self, splits: Mapping[str, list[Sentence]]) -> Callable[[Sentence], list[str]]:
        """Return what converts the tags of a sentence to BIO."""
        if self.invalid_tags == "repair":  # the reading that repairs needs no scheme
            return lambda sentence: repaired_bio(sentence.tags)
        detected = self.scheme == "auto"
        scheme: Scheme = (
            detect_scheme(sentence.tags for found in splits.values() for sentence in found)
            if self.scheme == "auto"
            else self.scheme
        )

        def convert(sentence: Sentence) -> list[str]:
            try:
                return to_bio(sentence.tags, scheme)
            except TagError as error:
                raise DataError(
                    f"{sentence.file}:{sentence.lines[error.position]}: {error.reason}"
                    f"{' (detected)' if detected else ''}. Mend the tag, set data.format.scheme=iob1, bio or bioes, or "
                    f"set data.format.invalid_tags=repair to read it as the CoNLL scorer does."
                ) from None

        return convert


def _ends_sentence(line: str) -> bool:
    return not line.strip(" \t") or line.startswith("-DOCSTART-")
