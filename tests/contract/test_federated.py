"""What a federation makes of every method of ``conf/peft/``: a mean of what its weights do, or a reason why not."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.method_files import METHODS, tiers

from peftlab.federated.averaging import Average
from peftlab.methods.head import head_of
from peftlab.methods.method import Method, MethodContext

ROUNDING = 1e-5
"""Relative to the mean change; methods compute in fp32."""


@pytest.fixture
def adapted(spec, backbones, pretrained):
    """Return a maker of a method and the tiny model to which it is applied, seeded."""
    task = spec("task=ner").task
    task.learn_labels({"train": []}, ["LOC", "PER"])

    def make(name):
        method, base = spec(f"peft={name}").peft, backbones(0, task)
        context = MethodContext(head_of(base), task.head.task_type, pretrained.origin, task.head.outputs)
        torch.manual_seed(0)
        return method, method.apply(copy.deepcopy(base), context)

    return make


def moved(model, method: Method, seed):
    """Return what the method trains, moved as by a training; factors of products so that their mean has their rank."""
    random = torch.Generator().manual_seed(seed)
    tensors = {name: tensor.detach().clone() for name, tensor in method.trained(model).items()}
    apart = {name for pair in method.factors(model) for name in pair}
    for name, tensor in tensors.items():
        if name not in apart and tensor.is_floating_point():
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=random))
    for up, down in method.factors(model):
        rank = tensors[down].shape[0]
        turn = torch.linalg.qr(torch.randn(rank, rank, generator=random))[0]
        same = torch.Generator().manual_seed(0)
        tensors[up] = torch.randn(tensors[up].shape, generator=same) @ turn * (0.1 * seed)
        tensors[down] = turn.T @ torch.randn(tensors[down].shape, generator=same)
    return tensors


def merged(model, method: Method, tensors):
    own = copy.deepcopy(model)
    with torch.no_grad():
        for name, tensor in method.trained(own).items():
            tensor.copy_(tensors[name])
    return {name: weight.detach().double() for name, weight in method.merge(own.eval()).named_parameters()}


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("name", tiers(METHODS))
def test_the_average_does_what_the_clients_do_on_average_or_there_is_a_reason(name, adapted):
    method, model = adapted(name)
    if method.not_averaged is not None:
        assert len(method.not_averaged) > 20
        return
    clients = [moved(model, method, seed) for seed in (1, 2, 3)]
    own_shares = [0.5, 0.25, 0.25]
    average = Average(method.factors(model))
    for tensors, share in zip(clients, own_shares, strict=True):
        average.add(tensors, share)
    mean, lost = average.result()
    assert lost < ROUNDING
    assert {key: value.shape for key, value in mean.items()} == {key: value.shape for key, value in clients[0].items()}
    for up, down in method.factors(model):
        exact = sum(share * each[up] @ each[down] for share, each in zip(own_shares, clients, strict=True))
        torch.testing.assert_close(mean[up] @ mean[down], exact, atol=1e-4, rtol=1e-4)
    if method.mergeable:
        start = merged(model, method, method.trained(model))
        changes = [{key: value - start[key] for key, value in merged(model, method, each).items()} for each in clients]
        of_mean = merged(model, method, mean)
        expected = {key: sum(s * each[key] for s, each in zip(own_shares, changes, strict=True)) for key in start}
        wrong = sum((of_mean[key] - start[key] - change).square().sum() for key, change in expected.items())
        assert wrong.sqrt() < ROUNDING * sum(change.square().sum() for change in expected.values()).sqrt()
