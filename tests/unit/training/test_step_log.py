"""The learning rates that are logged, where groups have multiples of them."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from peftlab.schedules import Linear
from peftlab.training.optimizers import OptimizerSpec
from peftlab.training.step_log import StepLog


@pytest.mark.parametrize(
    ("head_lr", "factor", "names"),
    [
        (None, lambda name: 1.0, {"train/lr": 0.1}),
        (0.7, lambda name: 1.0, {"train/lr": 0.1, "train/head_lr": 0.7}),
        (0.7, lambda name: 1.0 if "classifier" in name else 0.9, {"train/lr": 0.1, "train/head_lr": 0.7}),
        (0.1, lambda name: 0.9, {"train/lr": 0.1}),
    ],
)
@pytest.mark.parametrize("backbone", [True, False])
def test_rates_are_those_that_the_configuration_names(head_lr, factor, names, backbone):
    """Also where no group has `optimizer.lr` itself, as under LLRD; and none that no parameter has."""
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "classifier": nn.Linear(2, 2)})
    model["encoder"].requires_grad_(backbone)
    spec = OptimizerSpec(lr=0.1, head_lr=head_lr, algorithm=functools.partial(torch.optim.SGD, foreach=False))
    optimizer = spec.attach(model, ["classifier"], factor)
    scheduler = Linear(warmup_steps=4).attach(optimizer, 8)
    optimizer.step()
    scheduler.step()
    log = StepLog(SimpleNamespace(trainer=SimpleNamespace(optimizers=[optimizer])), spec)
    if head_lr == 0.7 and not backbone:
        names = {"train/head_lr": 0.7}
    assert log._learning_rates() == pytest.approx({name: rate / 4 for name, rate in names.items()})
