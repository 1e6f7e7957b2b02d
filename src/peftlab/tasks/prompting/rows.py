"""Texts as rows of a language model: demonstrations, the filled template, and the place where the label is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from peftlab.errors import DataError
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.texts import Text, special_tokens
from peftlab.tasks.prompting.demonstrations import Shown, others
from peftlab.tasks.prompting.template import ANSWER, Template
from peftlab.tasks.prompting.words import MultiToken, Row, Word, rows_for, tokenised
from peftlab.tasks.task import Encoded, check_size

LEAST = 16
"""Tokens of a text that are kept as long as a demonstration can be left out instead."""

_BETWEEN = "\n\n"
"""Separates demonstrations."""


class Filled(NamedTuple):
    """A template filled with a text, as tokens."""

    tokens: list[int]
    """With the demonstrations, without special tokens; a masked model's have one mask at the answer."""
    place: int
    """The token at which the first token of a word is read: the last one of a decoder's prompt, or the mask."""
    lost: int
    """Tokens of the text that were cut away."""
    dropped: int
    """Demonstrations that were left out."""
    is_empty: bool
    """Whether the text has no token."""


@dataclass(frozen=True)
class Prompt:
    """A template with the words of the labels, for one tokenizer."""

    template: Template
    words: Sequence[Word]
    """The words of all labels, in the order of the labels."""
    rows: Sequence[Row]
    """The rows of each example."""
    tokenizer: Any
    mask: int | None
    """The id of the mask of a masked model; None: the model is a decoder."""

    @classmethod
    def of(
        cls,
        template: Template,
        words: Mapping[str, Sequence[str]],
        tokenizer: Any,
        mask: int | None,
        how: MultiToken,
        scores_words: bool,
    ) -> Prompt:
        """Return the prompt of `template`.

        Args:
            template: the template.
            words: the words of each label.
            tokenizer: the model's.
            mask: see the field.
            how: how words of several tokens are scored.
            scores_words: whether the model scores words; else a trained head reads one place.

        Raises:
            ConfigError: a word cannot be scored, see `tokenised`.
        """
        made = tokenised(template, words, tokenizer, how if scores_words else "mean_logprob")
        return cls(template, made, rows_for(made, mask) if scores_words else [Row((), ())], tokenizer, mask)

    @cached_property
    def longest(self) -> int:
        """The most tokens that a row has beside those of the filled template."""
        return max(len(row.inserted) for row in self.rows)

    @cached_property
    def special(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a row; nothing follows a decoder's."""
        before, after = special_tokens(self.tokenizer)
        return list(before), list(after) if self.mask is not None else []

    def filled(self, example: Text, shown: Sequence[Shown], words: Mapping[str, Sequence[str]], most: int) -> Filled:
        """Return the template filled with `example`, so that its longest row has at most `most` tokens.

        If it is too long, the text is cut down to `LEAST` tokens, the longer one of a pair first; then demonstrations
        are left out, those farthest from the text first; then the text is cut further. Template and words stay whole.

        Raises:
            DataError: the template alone has more tokens.
        """
        before, after = self.special
        room = most - len(before) - len(after) - self.longest
        left = others(shown, example)
        skipped = len(shown) - len(left)  # it is one of the demonstrations itself, which is no loss
        tokens, place = self._tokens(example.text, example.pair, left, words)
        if len(tokens) <= room:
            return Filled(tokens, place, 0, 0, _is_empty(example, self.tokenizer))
        text, pair = _Cut(example.text, self.tokenizer), _Cut(example.pair or "", self.tokenizer)
        total = allowed = text.tokens + pair.tokens
        while True:
            first, second = _shares(text.tokens, pair.tokens, allowed)
            tokens, place = self._tokens(
                text.to(first), pair.to(second) if example.pair is not None else None, left, words
            )
            over = len(tokens) - room
            if over <= 0:
                return Filled(tokens, place, total - allowed, len(shown) - skipped - len(left), total == 0)
            if left and allowed - over < min(LEAST, total):
                left, allowed = left[1:], total
            elif allowed > 1:
                allowed = max(1, allowed - over)
            else:
                needed = most + over
                raise DataError(
                    f"data.max_tokens={most} leaves no room for a text beside the template '{self.template.source}', "
                    f"its words and the special tokens; set at least {needed}"
                )

    def row(self, filled: Filled, row: Row) -> tuple[list[int], list[int]]:
        """Return the tokens of a row, and for each 0, or the number, from 1, of the token of a word that is read there.

        Those numbers go up to one more than the tokens that are inserted.
        """
        before, after = self.special
        split = filled.place + 1
        tokens = [*before, *filled.tokens[:split], *row.inserted, *filled.tokens[split:], *after]
        asked = [0] * len(tokens)
        for n in range(len(row.inserted) + 1):
            asked[len(before) + filled.place + n] = n + 1
        return tokens, asked

    def _tokens(
        self, text: str, pair: str | None, shown: Sequence[Shown], words: Mapping[str, Sequence[str]]
    ) -> tuple[list[int], int]:
        """Return the tokens of the filled template, and the place of the answer among them."""
        examples = [self.template.filled(one["text"], one["pair"], words[one["label"]][0]) for one in shown]
        start = "".join(example + _BETWEEN for example in examples)
        if self.mask is None:
            ids = self._ids(start + self.template.before_answer(text, pair)) or [self._beginning]
            return ids, len(ids) - 1
        whole = start + self.template.filled(text, pair, self.tokenizer.mask_token)
        at = len(start) + self._place_in_text(text, pair)
        encoded = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        end = at + len(self.tokenizer.mask_token)
        for n, (id, span) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)):
            if id == self.mask and span[1] > at and span[0] < end:
                return encoded["input_ids"], n
        raise AssertionError("a tokenizer keeps the mask token whole")

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    @property
    def _beginning(self) -> int:
        """The token that a decoder reads where nothing stands before the answer."""
        first = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if first is None else first)

    def _place_in_text(self, text: str, pair: str | None) -> int:
        """Return the character of the filled template at which the answer starts."""
        length = 0
        for literal, place in self.template.parts:
            length += len(literal)
            if place == ANSWER:
                break
            length += len({"text": text, "pair": pair or ""}.get(place or "", ""))
        return length


class _Cut:
    """A text that may lose its end, by whole tokens."""

    def __init__(self, text: str, tokenizer: Any) -> None:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        self.text, self.ends = text, [end for _, end in encoded["offset_mapping"]]

    @property
    def tokens(self) -> int:
        return len(self.ends)

    def to(self, tokens: int) -> str:
        """Return the text of its first `tokens` tokens; with all of them, to the last character."""
        return self.text if tokens >= len(self.ends) else self.text[: self.ends[tokens - 1] if tokens else 0]


def _is_empty(example: Text, tokenizer: Any) -> bool:
    texts = example.text + (example.pair or "")
    return not any(map(str.isalnum, texts)) and not tokenizer(texts, add_special_tokens=False)["input_ids"]


def _shares(first: int, second: int, allowed: int) -> tuple[int, int]:
    """Return how many of `allowed` tokens the two texts of a pair get: the longer one is cut to the shorter first."""
    if first + second <= allowed:
        return first, second
    shorter = min(first, second, allowed // 2)
    return (shorter, allowed - shorter) if first <= second else (allowed - shorter, shorter)


def encode_prompts(
    examples: Sequence[Text],
    prompts: Sequence[Prompt],
    shown: Sequence[Shown],
    words: Mapping[str, Sequence[str]],
    most: int,
) -> Encoded:
    """Return the rows of `examples`, those of each prompt in turn.

    Returns:
        arrays ``tokens`` and ``asked`` of shape (all tokens,): the ids, and which token of a word is read there, from
        1, 0 for none; ``rows`` of shape (rows + 1,): where each row starts in them; ``examples`` of shape (examples +
        1,): where each example starts among the rows; ``truncated`` and ``empty`` of shape (examples,): the most tokens
        that a text loses in any prompt, and whether it has none; ``dropped`` of shape (examples,): the most
        demonstrations that are left out. The counts are ``truncated_texts``, ``truncated_tokens`` and
        ``dropped_demonstrations``.

    Raises:
        DataError: a template has more tokens than a row, or does not fit single texts or pairs.
    """
    tokens, asked = list[int](), list[int]()
    lengths, per_example, lost = list[int](), list[int](), list[tuple[int, int, bool]]()
    for example in examples:
        check_size(len(example.text) + len(example.pair or ""), example.place or example.id)
        filled = [(prompt, prompt.filled(example, shown, words, most)) for prompt in _fitting(prompts, example)]
        own = [prompt.row(text, row) for prompt, text in filled for row in prompt.rows]
        for ids, places in own:
            tokens += ids
            asked += places
        lengths += [len(ids) for ids, _ in own]
        per_example.append(len(own))
        texts = [text for _, text in filled]
        lost.append((max(t.lost for t in texts), max(t.dropped for t in texts), texts[0].is_empty))
    truncated, dropped, empty = (np.asarray([one[n] for one in lost], dtype=np.int64) for n in range(3))
    starts = np.concatenate([[0], np.cumsum(per_example)]).astype(np.int64)
    arrays: dict[str, np.ndarray] = {
        "tokens": np.asarray(tokens, dtype=np.int32),
        "asked": np.asarray(asked, dtype=np.int8),
        "rows": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "examples": starts,
        "truncated": truncated,
        "dropped": dropped,
        "empty": empty,
    }
    counts = {
        "truncated_texts": int((truncated > 0).sum()),
        "truncated_tokens": int(truncated.sum()),
        "dropped_demonstrations": int(dropped.sum()),
    }
    longest = np.maximum.reduceat(np.asarray(lengths), starts[:-1]) if lengths else np.zeros(0, dtype=np.int64)
    return Encoded(arrays, longest, prompts[0].tokenizer.pad_token_id or 0, counts)


def batch_of_prompts(
    examples: Sequence[Text], encoded: Encoded, indices: Sequence[int], labels: Tensor, weights: Tensor
) -> Batch:
    """Return a batch with the rows of each example in turn, inputs of shape (rows, tokens).

    Args:
        examples: those of the batch.
        encoded: the split, as `encode_prompts` encodes it.
        indices: the positions of the examples in the split.
        labels: the target of each example, shape (examples,).
        weights: their weights, shape (examples,).
    """
    tokens, asked, rows, starts = (encoded.arrays[name] for name in ("tokens", "asked", "rows", "examples"))
    bounds = [(row, place) for place, i in enumerate(indices) for row in range(starts[i], starts[i + 1])]
    shape = (len(bounds), max(int(rows[row + 1] - rows[row]) for row, _ in bounds))
    fills = {"input_ids": encoded.padding, "attention_mask": 0, "asked": 0}
    inputs = {name: np.full(shape, fill, dtype=np.int64) for name, fill in fills.items()}
    for n, (row, _) in enumerate(bounds):
        span, length = slice(rows[row], rows[row + 1]), int(rows[row + 1] - rows[row])
        inputs["input_ids"][n, :length] = tokens[span]
        inputs["asked"][n, :length] = asked[span]
        inputs["attention_mask"][n, :length] = 1
    return Batch(
        inputs={name: torch.from_numpy(values) for name, values in inputs.items()},
        targets={"labels": labels},
        weights=weights,
        rows=torch.tensor([place for _, place in bounds]),
        examples=list(examples),
        tokens=int(inputs["attention_mask"].sum()),
        padding=fills,
    )


def _fitting(prompts: Sequence[Prompt], example: Text) -> Iterator[Prompt]:
    """Yield the prompts, which must have a place for the second text of a pair, and none without it."""
    for prompt in prompts:
        if prompt.template.has_pair != (example.pair is not None):
            what = (
                "is one text, and the template has {pair}"
                if prompt.template.has_pair
                else ("is a pair, and the template has no {pair}")
            )
            raise DataError(
                f"{example.place or example.id}: this {what}: '{prompt.template.source}'. Write task.template for such "
                "examples"
            )
        yield prompt
