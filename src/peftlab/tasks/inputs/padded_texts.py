"""Encoded texts as the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from peftlab.tasks.task import Encoded


def padded(rows: Sequence[tuple[Encoded, int]]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return the inputs of some texts, each a place among texts encoded by `encode_texts`, padded to the longest.

    Returns:
        ``input_ids``, ``attention_mask`` and, if all of them have it, ``token_type_ids``, of shape (rows, tokens); and
        the value that pads each.
    """
    fills = {"input_ids": rows[0][0].padding}
    if all(len(encoded.arrays["types"]) for encoded, _ in rows):
        fills["token_type_ids"] = 0
    shape = (len(rows), max(int(encoded.lengths[place]) for encoded, place in rows))
    inputs = {name: np.full(shape, fill, np.int64) for name, fill in fills.items()} | {
        "attention_mask": np.zeros(shape, np.int64)
    }
    for row, (encoded, place) in enumerate(rows):
        start, length = encoded.arrays["examples"][place], encoded.lengths[place]
        for name, array in (("input_ids", "tokens"), ("token_type_ids", "types")):
            if name in fills:
                inputs[name][row, :length] = encoded.arrays[array][start : start + length]
        inputs["attention_mask"][row, :length] = 1
    return {name: torch.from_numpy(values) for name, values in inputs.items()}, fills | {"attention_mask": 0}
