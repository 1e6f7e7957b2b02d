"""Batches of tagged sentences, whose words stand in one row or several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.words import NO_WORD, Sentence
from peftlab.tasks.task import IGNORED, Encoded


def batch_of_words(
    examples: Sequence[Sentence], encoded: Encoded, indices: Sequence[int], labels: Sequence[str]
) -> Batch:
    """Return the batch of the sentences at `indices`, which `encode_words` has encoded.

    Its target ``labels``, of the shape of the inputs, has the tag of each word at its first token, else `IGNORED`.
    ``words[i]`` of `Batch.host` lists the positions of the words of the i-th sentence that have a token; their first
    tokens, sentence by sentence, are at ``labels != IGNORED``. The weight of a sentence is their number.

    Args:
        examples: the sentences of the split.
        encoded: the same sentences, encoded.
        indices: those of the batch.
        labels: the tags, in the order of their numbers.
    """
    tokens, word, rows = (encoded.arrays[name] for name in ("tokens", "word", "rows"))
    starts = encoded.arrays["examples"]
    bounds = [(row, place) for place, i in enumerate(indices) for row in range(starts[i], starts[i + 1])]
    width = max(int(rows[row + 1] - rows[row]) for row, _ in bounds)
    input_ids = np.full((len(bounds), width), encoded.padding, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    tags = np.full_like(input_ids, IGNORED)
    chosen = [examples[i] for i in indices]
    words: list[list[int]] = [[] for _ in chosen]
    number = {label: n for n, label in enumerate(labels)}
    for n, (row, place) in enumerate(bounds):
        span = slice(rows[row], rows[row + 1])
        length = int(rows[row + 1] - rows[row])
        input_ids[n, :length] = tokens[span]
        mask[n, :length] = 1
        first = np.flatnonzero(word[span] != NO_WORD)
        positions = word[span][first].tolist()
        tags[n, first] = [number[chosen[place].tags[position]] for position in positions]
        words[place] += positions
    return Batch(
        inputs={"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)},
        targets={"labels": torch.from_numpy(tags)},
        weights=torch.tensor(list(map(len, words)), dtype=torch.float64),
        rows=torch.tensor([place for _, place in bounds]),
        examples=chosen,
        tokens=int(mask.sum()),
        host={"words": words},
        padding={"input_ids": encoded.padding, "attention_mask": 0, "labels": IGNORED},
    )
