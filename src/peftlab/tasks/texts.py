"""Texts, or pairs of texts, with a label each, and how they become tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from peftlab.errors import DataError
from peftlab.tasks.task import Encoded, check_size


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
        DataError: `max_tokens` has no room beside the special tokens; some texts have a pair and others have none;
            a text is longer than `LONGEST_TEXT`.
    """
    for text in texts:
        check_size(len(text.text) + len(text.pair or ""), text.place or text.id)
    pairs = _pairs(texts)
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    needed = special + (1 if pairs is None else 2)
    if max_tokens < needed:
        raise DataError(
            f"data.max_tokens={max_tokens} leaves no room beside {special} special tokens; set at least {needed}"
        )
    found: Any = tokenizer([text.text for text in texts], pairs, verbose=False) if texts else {"input_ids": []}
    keys = ("input_ids",) if pairs is None else ("input_ids", "token_type_ids")
    rows: dict[str, list[list[int]]] = {key: found[key] for key in keys if key in found}
    tokens = np.asarray([len(ids) for ids in rows["input_ids"]], dtype=np.int64)
    truncated, empty = np.maximum(tokens - max_tokens, 0), (tokens == special).astype(np.int64)
    for n in np.flatnonzero(truncated).tolist():
        kept = _kept(found.encodings[n].sequence_ids, max_tokens - special, tokenizer.truncation_side)
        for of_all in rows.values():
            of_all[n] = [of_all[n][place] for place in kept]
    lengths = np.asarray([len(ids) for ids in rows["input_ids"]], dtype=np.int64)
    arrays: dict[str, np.ndarray] = {
        "tokens": _flat(rows["input_ids"], np.int32),
        "types": _flat(rows.get("token_type_ids", []), np.int8),
        "examples": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "truncated": truncated,
        "empty": empty,
    }
    counts = {"truncated_texts": int((truncated > 0).sum()), "truncated_tokens": int(truncated.sum())}
    return Encoded(arrays, lengths, tokenizer.pad_token_id or 0, counts)


def _kept(text_of: Sequence[int | None], room: int, side: str) -> list[int]:
    """Return the places in a row that are kept where its texts have to fit into `room` tokens.

    They are those that the tokenizer keeps by its strategy ``longest_first``; but of a pair of long texts that makes
    every combination of what is cut off, in gigabytes.

    Args:
        text_of: of each token the text that it is of, 0 or 1; None for special tokens.
        room: tokens of the texts.
        side: where a text is cut, ``right`` or ``left``.
    """
    places = [[place for place, text in enumerate(text_of) if text == number] for number in (0, 1)]
    first, second = map(len, places)
    shorter = min(first, second)
    # the longer one is cut to the length of the shorter one at most, and then both alike
    both = (first, max(shorter, room - first)) if first <= second else (max(shorter, room - second), second)
    if sum(both) > room:
        both = (room // 2, room - room // 2) if first <= second else (room - room // 2, room // 2)
    cut = {
        place
        for of_text, most in zip(places, both, strict=True)
        for place in (of_text[most:] if side == "right" else of_text[: len(of_text) - most])
    }
    return [place for place in range(len(text_of)) if place not in cut]


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
