"""The mean over ranks, with a second rank that is made up here."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from peftlab.devices import data_parallel
from peftlab.devices.data_parallel import average_gradients


def parameters(*gradients):
    made = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(2, 2))
        parameter.grad = None if gradient is None else torch.full((2, 2), float(gradient))
        made.append(parameter)
    return made


@pytest.fixture
def beside(monkeypatch):
    """Have a second rank take part, whose parameters have these gradients; returns what was sent, call by call."""

    def start(*gradients):
        theirs = [torch.tensor([gradient is not None for gradient in gradients], dtype=torch.int)]
        sent = []

        def all_reduce(tensor, operation=dist.ReduceOp.SUM):
            sent.append(tensor.numel())
            if operation == dist.ReduceOp.MAX:
                tensor.copy_(torch.maximum(tensor, theirs[0]))
                there = [g for g, some in zip(gradients, tensor.tolist(), strict=True) if some]
                theirs[1:] = [torch.cat([torch.full((4,), float(g or 0)) for g in there]) / 2] if there else []
            else:
                tensor.add_(theirs[1][: tensor.numel()])
                theirs[1] = theirs[1][tensor.numel() :]

        monkeypatch.setattr(dist, "all_reduce", all_reduce)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        return sent

    return start


def values(made):
    return [None if parameter.grad is None else parameter.grad[0, 0].item() for parameter in made]


def test_every_rank_gets_the_mean(beside):
    beside(3, 10)
    made = parameters(1, 2)
    average_gradients(made)
    assert values(made) == [2, 6]


def test_a_gradient_that_one_rank_has_counts_as_zero_on_the_other(beside):
    beside(3, None, None)
    made = parameters(None, 4, None)
    average_gradients(made)
    assert values(made) == [1.5, 2, None]


def test_what_is_frozen_takes_no_part(beside):
    beside(3)
    frozen, trained = parameters(5, 1)
    frozen.requires_grad_(False)
    average_gradients([frozen, trained])
    assert values([frozen, trained]) == [5, 2]


def test_gradients_are_sent_in_buckets_of_one_type(beside, monkeypatch):
    sent = beside(3, 4, 5)
    monkeypatch.setattr(data_parallel, "_BUCKET_BYTES", 32)
    made = parameters(1, 2, 3)
    average_gradients(made)
    assert sent == [3, 8, 4]
    assert values(made) == [2, 3, 4]
