"""Texts, or pairs of texts, with a label each, and how they become tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from peftlab.errors import DataError
from peftlab.tasks.task import Encoded


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a task that labels whole texts, as it stands in its file, or without gold."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    text: str
    label: str | None
    """None where there is no gold."""
    pair: str | None = None
    """The second text, of a task on pairs."""
    file: str = ""
    line: int | None = None
    """Where the text begins in `file`, from 1; None where the whole file is the text."""
    group: str | None = None
    """What it belongs to with others, a document or an author for instance."""

    @property
    def place(self) -> str:
        """The file, and the line where there is one, for messages."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def mapped(self, change: Callable[[str], str]) -> Text:
        """Return the text with `change` made to every text in it, one character for one."""
        label, pair, group = (None if part is None else change(part) for part in (self.label, self.pair, self.group))
        return replace(self, text=change(self.text), label=label, pair=pair, group=group)


def encode_texts(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Encoded:
    """Tokenise; what is beyond `max_tokens` tokens is lost, of a pair from the end of the longer text.

    Returns:
        arrays ``tokens`` and ``types`` of shape (all tokens,): the ids, and of pairs which text each belongs to, empty
        where the model does not ask for it; ``examples`` of shape (texts + 1,): where each text starts in them;
        ``truncated`` and ``empty`` of shape (texts,): the tokens that each text loses, and whether the tokenizer
        leaves nothing of it. Counted are the ``truncated_texts``, and the ``truncated_tokens`` that they lose.

    Raises:
        DataError: `max_tokens` has no room beside the special tokens; some texts have a pair and others have none.
    """
    pairs = _pairs(texts)
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    needed = special + (1 if pairs is None else 2)
    if max_tokens < needed:
        raise DataError(
            f"data.max_tokens={max_tokens} leaves no room beside {special} special tokens; set at least {needed}"
        )
    firsts = [text.text for text in texts]
    rows = _tokenised(tokenizer, firsts, pairs)
    long = [n for n, ids in enumerate(rows["input_ids"]) if len(ids) > max_tokens]
    tokens = np.asarray([len(ids) for ids in rows["input_ids"]], dtype=np.int64)
    truncated, empty = np.maximum(tokens - max_tokens, 0), (tokens == special).astype(np.int64)
    seconds = None if pairs is None else [pairs[n] for n in long]
    cut = _tokenised(tokenizer, [firsts[n] for n in long], seconds, truncation="longest_first", max_length=max_tokens)
    for key, shorter in cut.items():
        for n, row in zip(long, shorter, strict=True):
            rows[key][n] = row
    lengths = np.asarray([len(ids) for ids in rows["input_ids"]], dtype=np.int64)
    arrays: dict[str, np.ndarray] = {
        "tokens": _flat(rows["input_ids"], np.int32),
        "types": _flat(rows.get("token_type_ids", []), np.int8),
        "examples": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "truncated": truncated,
        "empty": empty,
    }
    counts = {"truncated_texts": len(long), "truncated_tokens": int(truncated.sum())}
    return Encoded(arrays, lengths, tokenizer.pad_token_id or 0, counts)


def _tokenised(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], pairs: list[str] | None, **options: Any
) -> dict[str, list[list[int]]]:
    """Return the token ids of each text, and of pairs what the model asks for beside them."""
    if not texts:
        return {"input_ids": []}
    found = tokenizer(texts, pairs, verbose=False, **options)
    return {key: found[key] for key in ("input_ids", *(() if pairs is None else ("token_type_ids",))) if key in found}


def _flat(rows: Sequence[Sequence[int]], dtype: type) -> np.ndarray:
    return np.fromiter(itertools.chain.from_iterable(rows), dtype=dtype)


def _pairs(texts: Sequence[Text]) -> list[str] | None:
    """Return the second texts; None where no text has one."""
    pairs = [text.pair for text in texts]
    if all(pair is None for pair in pairs):
        return None
    for text in texts:
        if text.pair is None:
            raise DataError(f"{text.place or text.id}: there is one text, where others are pairs; give it the second")
    return [pair for pair in pairs if pair is not None]
