"""Sentences as lists of tagged words, and their subword tokenisation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from peftlab.errors import DataError
from peftlab.personal_data.masked import Mask, masked_words
from peftlab.tasks.inputs.texts import special_tokens
from peftlab.tasks.task import Encoded, check_size

NO_WORD = -1
"""Marks a token that is not the first of a word."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a word-level task, as read from its file, or from a text without gold."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    words: list[str]
    tags: list[str]
    """One BIO tag per word; all O without gold."""
    file: str = ""
    lines: list[int] = field(default_factory=list)
    """The line (1-based) of each word in `file`, for messages."""
    text: str | None = None
    """The text that the words were split from; None if the input was words."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """The start and end of each word in `text`, in characters."""
    group: str | None = None
    """The group it belongs to, such as a document."""
    weight: float | None = None
    """The factor on its weight in the loss, if it is trained on; None: it has none of its own, and counts as 1."""

    @property
    def place(self) -> str:
        """The file and, if known, the first line, for messages."""
        return f"{self.file}:{self.lines[0]}" if self.lines else self.file

    def mapped(self, change: Callable[[str], str]) -> Sentence:
        """Return the sentence with `change`, which maps characters one to one, applied to all its texts."""
        return replace(
            self,
            words=_changed(self.words, change),
            tags=_changed(self.tags, change),
            text=None if self.text is None else change(self.text),
            group=None if self.group is None else change(self.group),
        )

    def masked(self, mask: Mask) -> Sentence:
        """Return the sentence with as many words, masked; each keeps its tag. It has no text besides its words."""
        return replace(self, words=masked_words(mask, self.words), text=None, spans=[])


def _changed(texts: list[str], change: Callable[[str], str]) -> list[str]:
    """Return `texts` with `change` applied to all of them in one call: there are many."""
    whole = "".join(texts)
    if (changed := change(whole)) == whole:
        return texts
    ends = list(itertools.accumulate(map(len, texts)))
    return [changed[end - len(text) : end] for text, end in zip(texts, ends, strict=True)]


def encode_words(
    sentences: Sequence[Sentence],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    long: Literal["split", "truncate"],
) -> Encoded:
    """Tokenise word by word; a sentence of more than `max_tokens` tokens becomes several rows or loses its end.

    Rows end at word boundaries. A single word longer than a row is cut, and keeps its first token. A word without a
    token (emptied by the tokenizer, or truncated) is never the ``word`` of a token, and is scored as missed.

    Returns:
        arrays ``tokens`` and ``word`` of shape (all tokens,): the ids, and for the first token of each word its
        position in the sentence, else `NO_WORD`; ``rows`` of shape (rows + 1,): where each row starts in them;
        ``examples`` of shape (sentences + 1,): where each sentence starts among the rows; ``truncated``, ``emptied``
        and ``cut`` of shape (sentences,): the numbers of its words that are beyond its row, have no token, and are
        longer than a row.

    Raises:
        DataError: `max_tokens` has no room for a word besides the special tokens; a sentence is longer than
            `LONGEST_TEXT`.
    """
    before, after = special_tokens(tokenizer)
    room = max_tokens - len(before) - len(after)
    if room < 1:
        raise DataError(
            f"data.max_tokens={max_tokens} leaves no room besides {len(before) + len(after)} special tokens"
        )

    for sentence in sentences:
        check_size(sum(map(len, sentence.words)), sentence.place or sentence.id)
    texts = [sentence.words for sentence in sentences]
    if _needs_spaces(tokenizer):
        texts = [[word if n == 0 else f" {word}" for n, word in enumerate(words)] for words in texts]
    encodings = tokenizer(texts, is_split_into_words=True, add_special_tokens=False, verbose=False)
    tokens: list[int] = []
    words: list[int] = []
    rows, examples = [0], [0]
    lengths = np.zeros(len(sentences), dtype=np.int64)
    lost = {name: np.zeros(len(sentences), dtype=np.int64) for name in ("emptied", "truncated", "cut")}
    split_sentences = 0
    for number, sentence in enumerate(sentences):
        pieces = _pieces(encodings["input_ids"][number], encodings.word_ids(number))
        lost["emptied"][number] = len(sentence.words) - len(pieces)
        chunks = _chunks([(word, ids[:room]) for word, ids in pieces], room)
        if long == "truncate":
            lost["truncated"][number] = sum(len(chunk) for chunk in chunks[1:])
            chunks = chunks[:1]
        read = sum(len(chunk) for chunk in chunks)
        lost["cut"][number] = sum(len(ids) > room for _, ids in pieces[:read])
        for chunk in chunks:
            start = len(tokens)
            tokens += before
            words += [NO_WORD] * len(before)
            for word, ids in chunk:
                tokens += ids
                words += [word] + [NO_WORD] * (len(ids) - 1)
            tokens += after
            words += [NO_WORD] * len(after)
            rows.append(len(tokens))
            lengths[number] = max(lengths[number], len(tokens) - start)
        examples.append(len(rows) - 1)
        split_sentences += len(chunks) > 1
    arrays: dict[str, np.ndarray] = {
        "tokens": np.asarray(tokens, dtype=np.int32),
        "word": np.asarray(words, dtype=np.int32),
        "rows": np.asarray(rows, dtype=np.int64),
        "examples": np.asarray(examples, dtype=np.int64),
        **lost,
    }
    total = {name: int(of_each.sum()) for name, of_each in lost.items()}
    cut = total.pop("cut")  # rare: recorded only if positive
    counts = {"words": sum(len(sentence.words) for sentence in sentences), **total, "split_sentences": split_sentences}
    counts |= {"cut": cut} if cut else {}
    return Encoded(arrays, lengths, tokenizer.pad_token_id or 0, counts)


def _needs_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a word alone lacks the mark of a word start within a text, as in byte-level BPE."""
    apart = tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    return bool(apart != tokenizer("a a", add_special_tokens=False)["input_ids"])


def _pieces(ids: Sequence[int], word_ids: Sequence[int | None]) -> list[tuple[int, list[int]]]:
    """Return (position, token ids) of each word that has tokens."""
    pieces: list[tuple[int, list[int]]] = []
    for token, word in zip(ids, word_ids, strict=True):
        assert word is not None, "no special tokens were added"
        if pieces and pieces[-1][0] == word:
            pieces[-1][1].append(token)
        else:
            pieces.append((word, [token]))
    return pieces


def _chunks(pieces: Sequence[tuple[int, list[int]]], room: int) -> list[list[tuple[int, list[int]]]]:
    """Split `pieces` at word boundaries into chunks of at most `room` tokens; at least one, possibly empty."""
    chunks: list[list[tuple[int, list[int]]]] = [[]]
    used = 0
    for piece in pieces:
        if used + len(piece[1]) > room:
            chunks.append([])
            used = 0
        chunks[-1].append(piece)
        used += len(piece[1])
    return chunks
