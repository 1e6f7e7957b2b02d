from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from peftlab.errors import NonFiniteError
from peftlab.tasks.batch import Batch
from peftlab.training.non_finite import SKIPS_IN_A_ROW, FiniteGuard, find
from peftlab.training.objective import Losses


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 3)), nn.Linear(3, 1))


def part(*numbers: float, id: str = "train:0") -> Batch:
    example = SimpleNamespace(id=id)
    return Batch(
        {"x": torch.tensor([numbers])}, {}, torch.ones(1), torch.zeros(1, dtype=torch.long), [example], tokens=1
    )


GOOD = part(1.0, 2.0, id="train:7")


def losses(model, batch, **factors):
    """Return the losses of a batch, with parts that are the task's times a factor."""
    loss = model(batch.inputs["x"]).sum() * factors.pop("loss", 1.0)
    parts = {name: loss * factor for name, factor in factors.items()}
    return Losses(loss + sum(parts.values()), loss, parts.pop("penalty", None), parts)


def found(model, *parts, loss=1.0):
    return find(model, list(parts), torch.tensor(loss), partial(losses, model))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_weights_are_named_with_the_first_module_that_they_spoil(model, value):
    with torch.no_grad():
        model[1][1].weight[0, 0] = value
    finding = found(model, GOOD)
    assert (finding.kind, finding.module, finding.parameters) == ("weights", "1.1", ["1.1.weight"])


def test_of_a_bad_loss_the_part_is_named(model):
    finding = found(model, GOOD, part(math.inf, 0.0, id="train:3"), GOOD)
    assert (finding.kind, finding.module, finding.examples) == ("loss", "0", ["train:3"])
    assert "the loss is not finite" in str(finding)
    assert "train:3" in str(finding)


@pytest.mark.parametrize(("part", "name"), [("loss", "loss"), ("penalty", "penalty"), ("rdrop", "regularizer.rdrop")])
def test_where_all_outputs_are_good_the_bad_part_of_the_loss_is_named(model, part, name):
    factors = {"loss": 1.0, "penalty": 1.0, "rdrop": 1.0, "fgm": 1.0} | {part: math.nan}
    finding = find(model, [GOOD], torch.tensor(math.nan), partial(losses, model, **factors))
    assert (finding.kind, finding.module) == ("loss", name)
    with pytest.raises(NonFiniteError) as told:
        FiniteGuard("stop", lambda *_, **__: None).failed(7, finding)
    assert ("regularizer.rdrop weaker" in str(told.value)) == (part == "rdrop")


def test_a_loss_that_is_bad_only_once_is_told_as_such(model):
    finding = found(model, GOOD, loss=math.nan)
    assert (finding.kind, finding.module, finding.examples) == ("loss", None, ["train:7"])


def test_of_a_bad_gradient_the_parameters_are_named_and_the_module_it_comes_from(model):
    model(GOOD.inputs["x"]).sum().backward()
    model[0].weight.grad[0, 0] = math.nan
    model[1][1].bias.grad[0] = math.inf
    finding = found(model, GOOD)
    assert (finding.kind, finding.module, finding.parameters) == ("gradient", "1.1", ["0.weight", "1.1.bias"])


def test_looking_leaves_no_trace(model):
    model.insert(1, nn.Dropout())
    before = torch.get_rng_state()
    found(model, part(math.nan, 0.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("on_nan", "expected"), [("stop", [0, 1, 1, 1]), ("skip_batch", [0, 1, 0, 0])])
def test_the_device_leaves_out_bad_steps_and_what_comes_after_the_last_one(on_nan, expected):
    guard = FiniteGuard(on_nan, lambda *_, **__: None)
    held = [guard.hold(torch.tensor(float(bad))).item() for bad in (0, 1, 0, 0)]
    assert held == expected


def test_as_many_bad_steps_in_a_row_as_end_a_run_are_the_last_ones():
    guard = FiniteGuard("skip_batch", lambda *_, **__: None)
    assert [guard.hold(torch.ones(())).item() for _ in range(SKIPS_IN_A_ROW)] == [1] * SKIPS_IN_A_ROW
    assert [guard.hold(torch.zeros(())).item() for _ in range(3)] == [1] * 3
    resumed = FiniteGuard("skip_batch", lambda *_, **__: None)
    resumed.skipped = SKIPS_IN_A_ROW - 1
    with resumed.unchanged():  # as where the first recorded step is rehearsed after others were left out
        resumed.hold(torch.zeros(()))
    assert [resumed.hold(torch.tensor(bad)).item() for bad in (1.0, 0.0)] == [1, 1]
