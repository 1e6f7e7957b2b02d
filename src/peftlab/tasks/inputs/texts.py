"""Labelled texts and text pairs, and their tokenisation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from transformers import PreTrainedTokenizerBase

from peftlab.errors import DataError
from peftlab.personal_data.masked import Mask
from peftlab.reading.placed import Placed
from peftlab.tasks.task import Encoded, check_size


class WholeText(Protocol):
    """One text, or pair of texts, of a task that reads whole texts."""

    @property
    def id(self) -> str:
        """Unique within the data set."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def pair(self) -> str | None:
        """The second text of a pair."""

    @property
    def place(self) -> str:
        """The file and, if known, the line, for messages."""


@dataclass(frozen=True, slots=True)
class Text(Placed):
    """One text, or pair of texts, of a task that labels whole texts, as read from its file, or without gold."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    text: str
    label: str | None
    """None without gold."""
    pair: str | None = None
    """The second text of a pair."""
    file: str = ""
    line: int | None = None
    """The first line of the text in `file`, from 1; None where the whole file is the text."""
    group: str | None = None
    """The group it belongs to, such as a document or an author."""
    weight: float | None = None
    """The factor on its weight in the loss, if it is trained on; None: it has none of its own, and counts as 1."""

    def mapped(self, change: Callable[[str], str]) -> Text:
        """Return the example with `change`, which maps characters one to one, applied to all its texts."""
        label, pair, group = (None if part is None else change(part) for part in (self.label, self.pair, self.group))
        return replace(self, text=change(self.text), label=label, pair=pair, group=group)

    def masked(self, mask: Mask) -> Text:
        """Return the example with both texts masked."""
        return replace(self, text=mask(self.text).text, pair=None if self.pair is None else mask(self.pair).text)


def encode_texts(texts: Sequence[WholeText], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Encoded:
    """Tokenise and truncate to `max_tokens`; a pair loses the end of its longer text first.

    Returns:
        arrays ``tokens`` and ``types`` of shape (all tokens,): the ids, and for pairs the text that each belongs to,
        empty if the model does not use it; ``examples`` of shape (texts + 1,): where each text starts in them;
        ``truncated`` and ``empty`` of shape (texts,): the number of tokens that each text loses, and whether it has
        none. The counts are ``truncated_texts`` and ``truncated_tokens``.

    Raises:
        DataError: `max_tokens` has no room besides the special tokens; some examples are pairs and others are not;
            a text is longer than `LONGEST_TEXT`.
    """
    for text in texts:
        check_size(len(text.text) + len(text.pair or ""), text.place or text.id)
    pairs = _pairs(texts)
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    needed = special + (1 if pairs is None else 2)
    if max_tokens < needed:
        raise DataError(
            f"data.max_tokens={max_tokens} leaves no room besides {special} special tokens; set at least {needed}"
        )
    encoding: Any = tokenizer([text.text for text in texts], pairs, verbose=False) if texts else {"input_ids": []}
    keys = ("input_ids",) if pairs is None else ("input_ids", "token_type_ids")
    rows: dict[str, list[list[int]]] = {key: encoding[key] for key in keys if key in encoding}
    tokens = np.asarray([len(ids) for ids in rows["input_ids"]], dtype=np.int64)
    truncated, empty = np.maximum(tokens - max_tokens, 0), (tokens == special).astype(np.int64)
    for n in np.flatnonzero(truncated).tolist():
        kept = _kept(encoding.encodings[n].sequence_ids, max_tokens - special, tokenizer.truncation_side)
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


def encode_rows(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int, long: Literal["split", "truncate"]
) -> Encoded:
    """Tokenise whole texts; one of more than `max_tokens` tokens becomes several full rows, or loses its end.

    Returns:
        arrays ``tokens`` of shape (all tokens,): the ids; ``rows`` of shape (rows + 1,): where each row starts in them;
        ``examples`` of shape (texts + 1,): where each text starts among the rows; ``truncated`` of shape (texts,): the
        number of tokens that each text loses. The counts are ``truncated_texts``, ``truncated_tokens`` and
        ``split_texts``.

    Raises:
        DataError: `max_tokens` has no room besides the special tokens; a text is longer than `LONGEST_TEXT`.
    """
    before, after = special_tokens(tokenizer)
    if (room := max_tokens - len(before) - len(after)) < 1:
        raise DataError(
            f"data.max_tokens={max_tokens} leaves no room besides {len(before) + len(after)} special tokens"
        )
    for text in texts:
        check_size(len(text))
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    tokens: list[int] = []
    rows, starts, lengths, truncated = [0], [0], [], []
    for ids in encoded:
        pieces = [ids[start : start + room] for start in range(0, len(ids), room)] or [[]]
        truncated.append(len(ids) - len(pieces[0]) if long == "truncate" else 0)
        for piece in pieces[:1] if long == "truncate" else pieces:
            tokens += [*before, *piece, *after]
            rows.append(len(tokens))
        starts.append(len(rows) - 1)
        lengths.append(len(pieces[0]) + len(before) + len(after))
    arrays: dict[str, np.ndarray] = {
        "tokens": np.asarray(tokens, dtype=np.int32),
        "rows": np.asarray(rows, dtype=np.int64),
        "examples": np.asarray(starts, dtype=np.int64),
        "truncated": np.asarray(truncated, dtype=np.int64),
    }
    counts = {
        "truncated_texts": int((arrays["truncated"] > 0).sum()),
        "truncated_tokens": int(arrays["truncated"].sum()),
        "split_texts": int((np.diff(arrays["examples"]) > 1).sum()),
    }
    return Encoded(arrays, np.asarray(lengths, dtype=np.int64), tokenizer.pad_token_id or 0, counts)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after a text, taken from an encoded word."""
    encoding = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoding["input_ids"], encoding["special_tokens_mask"]
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return list(ids[:first]), list(ids[last:])


def _kept(text_of: Sequence[int | None], room: int, side: str) -> list[int]:
    """Return the positions in a row that are kept so that its texts fit into `room` tokens.

    They equal those of the tokenizer's strategy ``longest_first``, which for a pair of long texts builds every
    combination of the overflow, in gigabytes.

    Args:
        text_of: the text that each token belongs to, 0 or 1; None for special tokens.
        room: maximum number of tokens of the texts.
        side: the end at which a text is cut, ``right`` or ``left``.
    """
    places = [[place for place, text in enumerate(text_of) if text == number] for number in (0, 1)]
    first, second = map(len, places)
    shorter = min(first, second)
    # the longer text is cut down to the length of the shorter one at most, then both equally
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


def _pairs(texts: Sequence[WholeText]) -> list[str] | None:
    """Return the second texts; None if no example has one."""
    pairs = [text.pair for text in texts]
    if all(pair is None for pair in pairs):
        return None
    for text in texts:
        if text.pair is None:
            raise DataError(f"{text.place or text.id}: this is one text, but others are pairs; add the second text")
    return [pair for pair in pairs if pair is not None]
