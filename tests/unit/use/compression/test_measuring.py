"""What a model takes: bytes that tied weights do not count twice."""

from __future__ import annotations

import torch
from torch import nn

from peftlab.use.compression.measuring import share_of_equal, weight_bytes


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False), nn.Linear(4, 2))
    assert weight_bytes(model) == 4 * (40 + 40 + 10)
    model[1].weight = model[0].weight
    assert weight_bytes(model) == 4 * (40 + 10)
    assert weight_bytes(model.to(torch.bfloat16)) == 2 * (40 + 10)


def test_numbers_are_not_counted_as_equal_answers():
    assert share_of_equal([["O", "B-X"], ["O"]], [["O", "O"], ["O"]]) == 0.5
    assert share_of_equal([0.5, 1.0], [0.5, 1.0]) is None
    assert share_of_equal([], []) is None
