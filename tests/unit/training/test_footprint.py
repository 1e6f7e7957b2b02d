from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from peftlab.training.footprint import Activations, gib_of, of_optimizer, of_parameters

GIB = 2**30


def test_tensors_that_share_memory_count_once():
    tensor = torch.zeros(10, 3)
    assert gib_of([tensor, tensor[1:], tensor.t(), torch.zeros(4, dtype=torch.int64)]) == (120 + 32) / GIB
    assert gib_of([]) == 0
    assert gib_of([torch.eye(3).to_sparse()]) == 0


def test_weights_and_the_gradients_of_those_that_are_trained():
    model = nn.Sequential(nn.Linear(8, 4, bias=False), nn.BatchNorm1d(4, affine=False))
    assert of_parameters(model) == {"weights_gib": (4 * 32 + 4 * 8 + 8) / GIB, "gradients_gib": 128 / GIB}
    model.requires_grad_(False)
    assert of_parameters(model)["gradients_gib"] == 0


@pytest.mark.parametrize(("kind", "numbers"), [(torch.optim.SGD, 0), (torch.optim.AdamW, 2 * 32 + 1)])
def test_the_state_of_the_optimizer(kind, numbers):
    layer = nn.Linear(8, 4, bias=False)
    optimizer = kind(layer.parameters(), lr=0.1)
    assert of_optimizer(optimizer) == 0
    layer(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    assert of_optimizer(optimizer) == 4 * numbers / GIB


def test_what_a_forward_pass_keeps():
    layer, x = nn.Linear(8, 4), torch.rand(6, 8)
    with Activations([*layer.parameters(), x]) as counting:
        y = layer(x).tanh()  # which keeps its output
        (y * y).sum().backward()
    assert counting.gib == 4 * 6 * 4 / GIB


def test_passes_that_follow_one_another_use_the_same_memory():
    """Memory that two passes use counts once; where the allocator puts what the second one makes is not known."""
    layer, x = nn.Linear(512, 512), torch.rand(64, 512)

    def kept(passes: int) -> float:
        with Activations(layer.parameters()) as counting:
            for _ in range(passes):
                layer(x).tanh().sum().backward()
        return counting.gib * GIB / (64 * 512 * 4)

    assert kept(1) == 2
    assert 2 <= kept(2) <= 3


def test_gradients_have_the_same_bits():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 4), torch.rand(6, 8)

    def gradients(counting: bool) -> list[torch.Tensor]:
        layer.zero_grad()
        if not counting:
            layer(x).tanh().exp().sum().backward()
        else:
            with Activations(layer.parameters()):
                layer(x).tanh().exp().sum().backward()
        return [parameter.grad.clone() for parameter in layer.parameters()]

    assert all(map(torch.equal, gradients(False), gradients(True)))


def test_a_pass_that_fails_leaves_nothing_alive():
    layer = nn.Linear(8, 4)
    gc.disable()
    try:
        with Activations([]):
            output = layer(torch.rand(6, 8)).exp()  # which is kept for the backward pass
            kept = weakref.ref(output)
            del output
            assert kept() is None
    finally:
        gc.enable()
