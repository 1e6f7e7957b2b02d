"""Questions with several choices, of which one is right, and their tokenisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from peftlab.errors import DataError
from peftlab.personal_data.masked import Mask
from peftlab.reading.placed import Placed
from peftlab.tasks.task import Encoded, check_size


@dataclass(frozen=True, slots=True)
class Choices(Placed):
    """A question, or the beginning of a text, and its choices; a context, a question, or both."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    choices: tuple[str, ...]
    """Two or more."""
    answer: int | None
    """The position of the right choice, from 0; None without gold."""
    context: str | None = None
    """What is read before the choice: a passage, or a sentence that the choices continue."""
    question: str | None = None
    file: str = ""
    line: int | None = None
    """Its line or row in `file`, from 1."""
    group: str | None = None
    """The group it belongs to, such as the passage of several questions."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The two texts that a model reads for each choice: context, or else question; and the rest with the choice."""
        first, question = (self.context, self.question) if self.context is not None else (self.question, None)
        return [(first or "", choice if question is None else f"{question} {choice}") for choice in self.choices]

    def mapped(self, change: Callable[[str], str]) -> Choices:
        """Return the example with `change`, which maps characters one to one, applied to all its texts."""
        texts = (self.context, self.question, self.group)
        context, question, group = (None if text is None else change(text) for text in texts)
        choices = tuple(map(change, self.choices))
        return replace(self, choices=choices, context=context, question=question, group=group)

    def masked(self, mask: Mask) -> Choices:
        """Return the example with all its texts masked."""
        context, question = (None if text is None else mask(text).text for text in (self.context, self.question))
        choices = tuple(mask(choice).text for choice in self.choices)
        return replace(self, choices=choices, context=context, question=question)


def encode_choices(examples: Sequence[Choices], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Encoded:
    """Tokenise each choice to one row of at most `max_tokens` tokens.

    A row that is too long loses the end of its first text, which all choices share; only if nothing is left of it, the
    choice itself loses its end.

    Returns:
        arrays ``tokens`` and ``types`` of shape (all tokens,): the ids, and the text that each belongs to, empty if the
        model does not use it; ``rows`` of shape (rows + 1,): where each row starts in them; ``examples`` of shape
        (examples + 1,): where each example starts among the rows; ``truncated`` of shape (examples,): the number of
        tokens that an example loses over all its rows. The counts are ``choices``, ``truncated_questions`` and
        ``truncated_tokens``.

    Raises:
        DataError: `max_tokens` has no room besides the special tokens; a text is longer than `LONGEST_TEXT`.
    """
    for example in examples:
        check_size(max(len(first) + len(second) for first, second in example.pairs), example.place or example.id)
    special = tokenizer.num_special_tokens_to_add(pair=True)
    if (room := max_tokens - special) < 1:
        raise DataError(
            f"data.max_tokens={max_tokens} leaves no room besides {special} special tokens; set at least {special + 1}"
        )
    pairs = [pair for example in examples for pair in example.pairs]
    firsts, seconds = ([pair[n] for pair in pairs] for n in (0, 1))
    encoding: Any = tokenizer(firsts, seconds, verbose=False) if pairs else {}
    rows: dict[str, list[list[int]]] = {
        key: encoding[key] for key in ("input_ids", "token_type_ids") if key in encoding
    }
    ids = rows.get("input_ids", [])
    truncated = np.maximum(np.asarray([len(row) for row in ids], dtype=np.int64) - max_tokens, 0)
    for n in np.flatnonzero(truncated).tolist():
        kept = _kept(encoding.encodings[n].sequence_ids, room)
        for of_all in rows.values():
            of_all[n] = [of_all[n][place] for place in kept]
    lengths = np.asarray([len(row) for row in ids], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(example.choices) for example in examples])]).astype(np.int64)
    lost = np.add.reduceat(truncated, starts[:-1]) if len(examples) else truncated
    arrays: dict[str, np.ndarray] = {
        "tokens": np.fromiter(chain.from_iterable(ids), dtype=np.int32),
        "types": np.fromiter(chain.from_iterable(rows.get("token_type_ids", [])), dtype=np.int8),
        "rows": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "examples": starts,
        "truncated": lost,
    }
    longest = np.maximum.reduceat(lengths, starts[:-1]) if len(examples) else lengths
    counts = {
        "choices": len(pairs),
        "truncated_questions": int((lost > 0).sum()),
        "truncated_tokens": int(lost.sum()),
    }
    return Encoded(arrays, longest, tokenizer.pad_token_id or 0, counts)


def _kept(text_of: Sequence[int | None], room: int) -> list[int]:
    """Return the positions of a row that are kept, so that its two texts fit into `room` tokens.

    Args:
        text_of: the text that each token belongs to, 0 or 1; None for special tokens.
        room: the maximum number of tokens of both texts.
    """
    first, second = ([place for place, text in enumerate(text_of) if text == number] for number in (0, 1))
    most = max(room - len(second), 0)
    cut = {*first[most:], *second[room - min(most, len(first)) :]}
    return [place for place in range(len(text_of)) if place not in cut]
