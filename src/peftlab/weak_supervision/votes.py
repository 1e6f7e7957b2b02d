"""The votes of all functions on all texts, or on all words, as a table."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftlab.errors import DataError, UserError, did_you_mean
from peftlab.scores.bio import bio_labels
from peftlab.weak_supervision.functions import LabellingFunction, Unlabelled

ABSTAIN = -1
"""Stands for no vote."""

OUTSIDE = "O"
"""The type of a span whose words belong to no entity."""


@dataclass(frozen=True)
class Votes:
    """What each function says of each row: of each text or, of sentences, of each word."""

    table: np.ndarray
    """Positions in `labels`, or `ABSTAIN`, shape (rows, functions)."""
    names: list[str]
    """Of the functions."""
    labels: list[str]
    """The classes; of words the BIO tags, with O in the first place."""
    lengths: np.ndarray | None = None
    """Words of each sentence, shape (sentences,); None: rows are texts."""

    @property
    def voted(self) -> np.ndarray:
        """Whether any function votes on each row, shape (rows,)."""
        voted: np.ndarray = (self.table != ABSTAIN).any(axis=1)
        return voted

    @property
    def ends(self) -> np.ndarray:
        """Where each example begins among the rows, and where the last ends, shape (examples + 1,)."""
        lengths = np.ones(len(self.table), dtype=np.int64) if self.lengths is None else self.lengths
        return np.concatenate([[0], np.cumsum(lengths)])

    def counts(self) -> np.ndarray:
        """Return how many functions vote for each label, shape (rows, labels)."""
        return np.stack([(self.table == label).sum(axis=1) for label in range(len(self.labels))], axis=1)


def cast(
    functions: Sequence[LabellingFunction], texts: Sequence[Unlabelled], labels: Sequence[str] | None, words: bool
) -> Votes:
    """Return the votes of `functions` on `texts`, or on their words.

    Args:
        functions: of unique names.
        texts: at least one.
        labels: the classes, or the types of entities; None: all that the functions vote for, sorted.
        words: whether they find entities.

    Raises:
        UserError: two functions have the same name, or one fails.
        DataError: a vote is no label, or no list of spans; names the function and the text.
    """
    names = [function.name for function in functions]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"--functions: two are called '{repeated[0]}'. Give each a name of its own")
    said = [list(function.votes(texts)) for function in functions]
    read = _entities if words else _label
    columns: list[list[list[Any]]] = [
        [read(vote, f"{text.place}: '{name}'", text) for vote, text in zip(of_one, texts, strict=True)]
        for name, of_one in zip(names, said, strict=True)
    ]
    used: set[str] = {one[2] if words else one for column in columns for votes in column for one in votes}
    used -= {OUTSIDE} if words else set()
    known = sorted(used) if labels is None else list(labels)
    if unknown := sorted(used.difference(known)):
        raise DataError(
            f"--labels: a function votes for '{unknown[0]}', which is none of {', '.join(known)}."
            f"{did_you_mean(unknown[0], known)} Add it, or mend the function"
        )
    if words:
        return _of_words(columns, names, texts, known)
    place = {label: n for n, label in enumerate(known)}
    table = [[place[vote[0]] if vote else ABSTAIN for vote in column] for column in columns]
    return Votes(np.asarray(table, dtype=np.int64).T, names, known)


def _label(vote: Any, where: str, text: Unlabelled) -> list[str]:
    """Return a list of the label that a vote is, empty where it abstains."""
    if vote is None:
        return []
    if not isinstance(vote, str) or not vote.strip():
        raise DataError(f"{where} votes {vote!r}; expected a label as a text, or None to abstain")
    return [vote.strip()]


def _entities(vote: Any, where: str, text: Unlabelled) -> list[tuple[int, int, str]]:
    """Return the spans of a vote in their order."""
    length = len(text.words)
    try:
        spans = sorted((int(start), int(end), str(kind)) for start, end, kind in vote or ())
    except (TypeError, ValueError):
        raise DataError(
            f"{where} votes {vote!r}; expected a list of (start_word, end_word, type), or None to abstain"
        ) from None
    for start, end, kind in spans:
        if not (0 <= start < end <= length and kind.strip()):
            raise DataError(
                f"{where} votes {(start, end, kind)!r}; of {length} words a span is (start, end, type) with "
                f"0 <= start < end <= {length}: the word at end no longer belongs to it"
            )
    for (_, end, _), (start, *_) in itertools.pairwise(spans):
        if start < end:
            raise DataError(f"{where}: two of its spans share the word '{text.words[start]}'. Return one of them")
    return spans


def _of_words(columns: Sequence[Any], names: list[str], texts: Sequence[Unlabelled], types: Sequence[str]) -> Votes:
    lengths = np.asarray([len(text.words) for text in texts], dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    tags = bio_labels(types)
    first = {kind: tags.index(f"B-{kind}") for kind in types}
    table = np.full((begins[-1], len(names)), ABSTAIN, dtype=np.int64)
    for function, column in enumerate(columns):
        for begin, spans in zip(begins[:-1], column, strict=True):
            for start, end, kind in spans:
                is_outside = kind == OUTSIDE
                table[begin + start : begin + end, function] = 0 if is_outside else first[kind] + 1  # I-, behind B-
                table[begin + start, function] = 0 if is_outside else first[kind]
    return Votes(table, names, tags, lengths)
