"""Files of plain text, and of words with their tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from peftlab.data.column_lines import ends_sentence, fields_of, places_of
from peftlab.data.masked.tally import Tally
from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError
from peftlab.personal_data.masked import masked_words
from peftlab.scores.bio import is_tag, respelt


def masked_text(path: Path, tally: Tally) -> Iterator[bytes]:
    """Yield the text, masked as a whole: an address may take several lines."""
    yield tally.of("text", str(path))(read_text(path)).text.encode()


def masked_word_lines(path: Path, tally: Tally) -> Iterator[bytes]:
    """Yield the lines, each with as many words between spaces as it has: their tags stand in another file."""
    for number, line in enumerate(lines_of(read_text(path)), start=1):
        words = masked_words(tally.of("text", f"{path}:{number}"), line.split(" "))
        yield f"{' '.join(words)}\n".encode()


def masked_columns(path: Path, tally: Tally, word_column: int = 0) -> Iterator[bytes]:
    """Yield the lines of a column file, the words of each sentence masked; every word keeps its line and its tag.

    A comment, which may hold the whole sentence, is masked as a text.

    Args:
        path: the file.
        tally: masks and counts.
        word_column: the column of the word, from 0.
    """
    lines = lines_of(read_text(path))
    width = next((len(fields_of(line)) for line in lines if not (ends_sentence(line) or line.startswith("#"))), 0)
    sentence: list[str] = []
    first = 1
    for number, line in enumerate(lines, start=1):
        if not ends_sentence(line):
            sentence.append(line)
            continue
        yield from _masked_sentence(sentence, tally, f"{path}:{first}", word_column, width)
        yield f"{line}\n".encode()
        sentence, first = [], number + 1
    yield from _masked_sentence(sentence, tally, f"{path}:{first}", word_column, width)


def in_columns(word_column: int) -> partial[Iterator[bytes]]:
    """Return `masked_columns` for files with the words in another column."""
    return partial(masked_columns, word_column=word_column)


def has_columns(path: Path) -> bool:
    """Return whether a text file is one of columns: the last field of nearly all lines is a tag."""
    lines = [fields_of(line) for line in lines_of(read_text(path)) if not ends_sentence(line)]
    tagged = sum(len(fields) > 1 and (is_tag(fields[-1]) or respelt(fields[-1]) is not None) for fields in lines)
    return bool(lines) and tagged >= 0.9 * len(lines)


def _masked_sentence(lines: Sequence[str], tally: Tally, place: str, word_column: int, width: int) -> Iterator[bytes]:
    words: list[tuple[int, int] | None] = []
    for line in lines:
        places = None if _is_comment(line, width) else places_of(line)
        if places is not None and len(places) <= word_column:
            raise DataError(f"{place}: a line of the sentence has no column {word_column}. Mend it, or --word-column")
        words.append(None if places is None else places[word_column])
    own = [line[slice(*word)] for line, word in zip(lines, words, strict=True) if word is not None]
    masked = iter(masked_words(tally.of("word", place), own))
    for line, word in zip(lines, words, strict=True):
        if word is None:
            yield f"{tally.of('comment', place)(line).text}\n".encode()
        else:
            yield f"{line[: word[0]]}{next(masked)}{line[word[1] :]}\n".encode()


def _is_comment(line: str, width: int) -> bool:
    """Return whether a line is a comment: it begins with #, and is no line of a word, which # may be, with its tag."""
    fields = fields_of(line)
    return line.startswith("#") and not (len(fields) == width and is_tag(fields[-1]))
