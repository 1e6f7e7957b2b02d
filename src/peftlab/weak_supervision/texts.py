"""Reads texts to be labelled, and the few labelled ones that functions are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peftlab.data.column_lines import ends_sentence, fields_of
from peftlab.data.rows import cells
from peftlab.data.rows.row_files import CONTAINERS, container_of
from peftlab.data.rows.row_reader import Place
from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError, did_you_mean
from peftlab.reading.unicode_text import Door
from peftlab.scores.bio import TagError, is_tag, to_bio
from peftlab.weak_supervision.functions import Unlabelled

_WORDS = ("tokens", "words")
"""The columns of sentences, the second in files of unlabelled ones."""
_LINES = (".txt", ".text")
_COLUMN_FILES = (".conll", ".bio", ".iob", ".iob2")


@dataclass(frozen=True)
class Source:
    """How files of texts are read: rows (JSON lines, CSV, Parquet, Arrow) or a text a line; of sentences also column
    files, whose tags, in BIO, are the last column.
    """

    words: bool = False
    """Whether the entities of sentences are labelled. A sentence is a list of words, or a text that is split."""
    text: str | None = None
    """The column of the text; None: ``text``, or of sentences ``tokens`` or ``words`` if there is such a column."""
    pair: str | None = None
    """The column of the second text, for pairs."""
    label: str | None = None
    """The column of the label; None: ``label``, or of sentences ``ner_tags``."""

    def read(self, path: Path, gold: bool = False) -> list[Unlabelled]:
        """Return the texts of a file.

        Args:
            path: the file.
            gold: whether they have labels, which are read too.

        Raises:
            DataError: it cannot be read, has no text, or a row is malformed; names the line.
        """
        suffix = path.suffix.lower()
        lines = lines_of(read_text(path)) if suffix in (*_LINES, *_COLUMN_FILES) else []
        if self.words and _are_columns(lines):
            texts = _of_columns(path, lines, gold)
        elif suffix in _LINES and not gold:
            numbered = enumerate(lines, start=1)
            texts = [self._text(line, None, f"{path}:{number}", None) for number, line in numbered if line.strip()]
        elif suffix in CONTAINERS:
            columns = [name for name in (self.text, "text", *_WORDS, self.pair, self._label) if name]
            texts = list(container_of(path).examples(path, columns, partial(self._example, gold), 2**62))
        else:
            raise DataError(f"{path}: what kind of file is it? Its name may end with {', '.join(CONTAINERS)} or .txt")
        if not texts:
            raise DataError(f"{path}: holds no text")
        return texts

    @property
    def _label(self) -> str:
        return self.label or ("ner_tags" if self.words else "label")

    def _example(self, gold: bool, row: Mapping[str, Any], position: int, place: Place) -> Unlabelled:
        column = self.text or next((name for name in _WORDS if self.words and name in row), "text")
        for option, name in (("text", column), ("pair", self.pair), ("label", self._label if gold else None)):
            if name is not None and name not in row:
                raise DataError(
                    f"{place}: there is no column '{name}'.{did_you_mean(name, row)} Columns: {', '.join(row)}. Set "
                    f"--{option} to one of them"
                )
        pair = None if self.pair is None else cells.text(row, self.pair, "pair", place)
        label: Any = None
        if gold:
            read = cells.names if self.words else cells.name
            label = read(row, self._label, "label", place)
        is_list = self.words and isinstance(row[column], list)
        content = cells.texts(row, column, "text", place) if is_list else cells.text(row, column, "text", place)
        return self._text(content, pair, str(place), label)

    def _text(self, content: Any, pair: str | None, place: str, gold: Any) -> Unlabelled:
        door = Door()
        if not self.words:
            return Unlabelled(door(content), None if pair is None else door(pair), place=place, gold=gold)
        if isinstance(content, str):
            from peftlab.tasks.inputs.splitting import words_of

            content = [content[start:end] for start, end in words_of(content)]
        if not content:
            raise DataError(f"{place}: has no word. Remove it")
        return _sentence(tuple(door(word) for word in content), gold, place)


def _sentence(words: tuple[str, ...], tags: list[str] | None, place: str) -> Unlabelled:
    return Unlabelled(" ".join(words), words=words, place=place, gold=_tags(tags, words, place))


def _tags(tags: list[str] | None, words: tuple[str, ...], place: str) -> list[str] | None:
    """Return gold tags, which must be BIO and as many as there are words."""
    if tags is None:
        return None
    wrong = [tag for tag in tags if not is_tag(tag)]
    if wrong or len(tags) != len(words):
        raise DataError(f"{place}: expected a BIO tag for each of {len(words)} words, not {wrong[:1] or len(tags)}")
    try:
        return to_bio(tags, "bio")
    except TagError as error:
        raise DataError(f"{place}: tag {error.position + 1}: {error.reason}") from None


def _are_columns(lines: Sequence[str]) -> bool:
    """Return whether most lines are a word with its tag, as in column files, which may be called .txt."""
    fields = [fields_of(line, None) for line in lines if not ends_sentence(line)]
    return bool(fields) and 2 * sum(len(each) > 1 and is_tag(each[-1]) for each in fields) > len(fields)


def _of_columns(path: Path, lines: Sequence[str], gold: bool) -> list[Unlabelled]:
    """Return the sentences of a column file: a word a line, in the first column, and its tag in the last one."""
    texts: list[Unlabelled] = []
    fields: list[list[str]] = []
    for number, line in enumerate([*lines, ""], start=1):
        if not ends_sentence(line):
            fields.append(fields_of(line, None))
        elif fields:
            words, tags = (tuple(each[column] for each in fields) for column in (0, -1))
            texts.append(_sentence(words, list(tags) if gold else None, f"{path}:{number - len(fields)}"))
            fields = []
    return texts
