"""The units of an explanation: the words of one row of inputs, each with its tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from transformers import PreTrainedTokenizerBase

from peftlab.tasks.batch import ENTITY_SPANS, Batch
from peftlab.tasks.inputs.splitting import words_of
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED


@dataclass(frozen=True)
class Word:
    """A word as the model reads it."""

    index: int
    """Its place among the words of a sentence that is given as words, else among those of the row; from 0."""
    text: str
    positions: tuple[int, ...]
    """Its tokens, as positions in the row."""


def words_in(batch: Batch, row: int, processor: Processor, until: int | None = None) -> list[Word]:
    """Return the words of one row of a batch of one example.

    Padding, special tokens and the markers around entities are no words: they stay as they are in every explanation.
    Neither are the virtual tokens of a method, which are no part of the inputs.

    Args:
        batch: of one example.
        row: the row.
        processor: the one that the batch was encoded with.
        until: the last position that the target sees; None: it sees all.
    """
    ids = batch.inputs["input_ids"][row]
    ordinary = ~torch.isin(ids, torch.tensor(processor.special_ids, dtype=ids.dtype, device=ids.device))
    if batch.real is not None:
        ordinary &= batch.real[row].bool()
    if ENTITY_SPANS in batch.inputs:
        starts, ends = batch.inputs[ENTITY_SPANS][row].T
        ordinary[torch.cat([starts, ends - 1])] = False
    if until is not None:
        ordinary[until + 1 :] = False
    positions = ordinary.nonzero().flatten().tolist()
    if "words" in batch.host:
        return _of_sentence(batch, row, positions)
    words: list[Word] = []
    for _, run in groupby(enumerate(positions), key=lambda pair: pair[1] - pair[0]):
        adjacent = [position for _, position in run]
        words += _of_text(processor.tokenizer, ids[adjacent].tolist(), adjacent, len(words))
    return words


def first_tokens(batch: Batch) -> list[tuple[int, int, int]]:
    """Return (row, position, word) of the first token of each word of a tagged sentence, in order."""
    (words,) = batch.host["words"]
    places = (batch.targets["labels"] != IGNORED).nonzero().tolist()
    return [(row, position, word) for (row, position), word in zip(places, words, strict=True)]


def _of_sentence(batch: Batch, row: int, positions: Sequence[int]) -> list[Word]:
    starts = [(position, word) for of, position, word in first_tokens(batch) if of == row]
    ends = [*(position for position, _ in starts[1:]), batch.shape[1]]
    texts = batch.examples[0].words
    return [
        Word(word, texts[word], tuple(position for position in positions if start <= position < end))
        for (start, word), end in zip(starts, ends, strict=True)
    ]


def _of_text(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], positions: Sequence[int], first: int
) -> list[Word]:
    """Return the words of adjacent tokens: a token belongs to the word that its first visible character is in.

    The text is decoded, so that a word is shown as the model reads it, such as in lower case.
    """

    def decoded(count: int) -> str:
        return str(tokenizer.decode(list(ids[:count]), clean_up_tokenization_spaces=False))

    text = decoded(len(ids))
    ends = [min(len(decoded(count)), len(text)) for count in range(len(ids) + 1)]
    starts = [start for start, _ in words_of(text)]
    owners: list[int] = []
    for start, end in pairwise(ends):
        piece = text[start:end]
        visible = start + len(piece) - len(piece.lstrip())
        before = owners[-1] if owners else 0
        # a token that shows nothing, such as the first byte of a letter, belongs to the word before
        owners.append(max(before, bisect_right(starts, visible) - 1) if piece.strip() else before)
    words: list[Word] = []
    for _, run in groupby(range(len(ids)), key=owners.__getitem__):
        own = list(run)
        shown = text[ends[own[0]] : ends[own[-1] + 1]].strip()
        words.append(Word(first + len(words), shown, tuple(positions[n] for n in own)))
    return words
