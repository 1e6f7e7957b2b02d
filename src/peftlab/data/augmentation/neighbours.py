"""Words that lie near each other in the input embeddings of a pretrained model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from transformers import PreTrainedTokenizerBase

_ROWS = 256
"""Words that are compared with the vocabulary at once: their similarities take a few tens of megabytes."""


def nearest(
    words: Iterable[str], tokenizer: PreTrainedTokenizerBase, embeddings: np.ndarray, number: int
) -> dict[str, tuple[str, ...]]:
    """Return, for each of `words` that is one token, the `number` other words whose embeddings are the most similar.

    Similarity is the cosine. Candidates are the tokens of the vocabulary that are whole words of letters.

    Args:
        words: words as they stand in a text.
        tokenizer: the tokenizer of the model.
        embeddings: its input embeddings, shape (vocabulary, features).
        number: neighbours of each word.
    """
    vocabulary = _whole_words(tokenizer)
    ids = np.asarray(list(vocabulary.values()), dtype=np.int64)
    names = list(vocabulary)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = (embeddings / np.maximum(norms, 1e-12)).astype(np.float32)
    candidates = directions[ids]
    single = [word for word in dict.fromkeys(words) if word in vocabulary]
    table = {}
    for start in range(0, len(single), _ROWS):
        part = single[start : start + _ROWS]
        similar = directions[[vocabulary[word] for word in part]] @ candidates.T
        order = np.argsort(-similar, axis=1, kind="stable")[:, : 2 * number + 2]  # some differ in case only
        for word, row in zip(part, order.tolist(), strict=True):
            near = [names[n] for n in row if names[n].lower() != word.lower()][:number]
            if near:
                table[word] = tuple(near)
    return table


def _whole_words(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the token id of each word of letters that is a single token inside a text."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    marks = [mark for mark in ("\u0120", "\u2581") if sum(token.startswith(mark) for token in vocabulary) > 1]
    special = set(tokenizer.all_special_tokens)
    if not marks:  # WordPiece marks the tokens that continue a word instead
        return {token: n for token, n in sorted(vocabulary.items()) if token.isalpha() and token not in special}
    return {token[1:]: n for token, n in sorted(vocabulary.items()) if token[:1] in marks and token[1:].isalpha()}
