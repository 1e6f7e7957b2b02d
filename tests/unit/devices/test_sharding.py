from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from peftlab.devices.sharding import load_everywhere, shard, whole
from peftlab.storage.tensors import save


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """Of one rank, this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.head = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_forward_pass_leaves_the_shares_of_the_optimiser_in_the_model(mesh, gradient):
    model = Model()
    shard(model, mesh)
    optimised = dict(model.named_parameters())
    with torch.set_grad_enabled(gradient):
        model(torch.ones(1, 2))
    left = dict(model.named_parameters())
    assert all(isinstance(parameter, DTensor) for parameter in left.values())
    assert all(parameter is optimised[name] for name, parameter in left.items())


def test_what_is_loaded_after_an_evaluation_is_what_the_next_step_begins_with(mesh, tmp_path):
    model = Model()
    shard(model, mesh)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    path = tmp_path / "weights.safetensors"
    expected = {name: torch.full_like(tensor, 0.5) for name, tensor in whole(dict(model.named_parameters())).items()}
    save(expected, path)
    with torch.no_grad():
        model(torch.ones(1, 2))
    load_everywhere(dict(model.named_parameters()), path)
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    found = whole(dict(model.named_parameters()))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
