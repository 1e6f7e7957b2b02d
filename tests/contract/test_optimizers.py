"""What every optimiser of ``conf/optimizer/`` must hold. A new file there is tested without a change here."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from peftlab.composing.compose import conf_dir

OPTIMIZERS = sorted(path.stem for path in (conf_dir() / "optimizer").glob("*.yaml"))

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
Y = X[:, :2] - 2 * X[:, 2:4]


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ModuleDict({"linear": nn.Linear(6, 6), "norm": nn.LayerNorm(6)}),
        nn.ModuleDict({"classifier": nn.Linear(6, 2)}),
    )


def loss_of(model):
    encoder, head = model
    hidden = encoder["norm"](X + encoder["linear"](X))
    return nn.functional.mse_loss(head["classifier"](hidden), Y)


def step(model, optimizer):
    optimizer.zero_grad()
    loss = loss_of(model)
    loss.backward()
    optimizer.step()
    return loss.item()


def copies(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)


@pytest.fixture
def attach(spec):
    """Return a maker of the optimiser of a model, under some overrides."""

    def make(name, model, *overrides):
        return spec(f"optimizer={name}", *overrides).optimizer.attach(model, ["classifier"])

    return make


@pytest.mark.parametrize("name", OPTIMIZERS)
class TestEveryOptimizer:
    @pytest.mark.one_in(3, "slow")
    def test_its_rate_is_that_of_the_method_where_none_is_given(self, name, spec):
        assert spec(f"optimizer={name}", "peft=full").optimizer.lr == spec("peft=full").peft.learning_rate
        assert spec(f"optimizer={name}", "peft=head").optimizer.lr == spec("peft=head").peft.learning_rate
        assert spec(f"optimizer={name}", "optimizer.lr=0.5").optimizer.lr == 0.5

    def test_it_lowers_the_loss(self, name, attach):
        trained = model()
        optimizer = attach(name, trained, "optimizer.lr=0.01")
        before = copies(trained)
        first = step(trained, optimizer)
        assert all(not torch.equal(before[key], after) for key, after in copies(trained).items())
        for _ in range(30):
            last = step(trained, optimizer)
        assert last < 0.8 * first

    def test_its_state_is_finite(self, name, attach):
        trained = model()
        optimizer = attach(name, trained, "optimizer.lr=0.01")
        for _ in range(3):
            step(trained, optimizer)
        found = list(tensors_in(optimizer.state_dict()["state"]))
        assert found
        assert all(tensor.isfinite().all() for tensor in found)

    def test_vectors_are_not_decayed(self, name, attach):
        """Without a gradient, decay is all that a step does."""
        still = model()
        optimizer = attach(name, still, "optimizer.lr=0.01", "optimizer.weight_decay=0.1")
        before = copies(still)
        for parameter in still.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for key, after in copies(still).items():
            if after.ndim > 1:
                shrunk = (after.norm() / before[key].norm()).item()
                assert 0.99 < shrunk < 0.9995, key
                torch.testing.assert_close(after, before[key] * shrunk)
            else:
                assert torch.equal(after, before[key]), key

    def test_the_head_moves_at_its_own_rate(self, name, attach):
        trained = model()
        optimizer = attach(name, trained, "optimizer.lr=0.01", "optimizer.head_lr=1.0e-12")
        before = copies(trained)
        for _ in range(3):
            step(trained, optimizer)
        moved = {key: (after - before[key]).abs().max().item() for key, after in copies(trained).items()}
        assert {key for key, distance in moved.items() if distance < 1e-9} == {
            key for key in moved if "classifier" in key
        }

    def test_it_goes_on_from_its_state_as_if_never_stopped(self, name, attach):
        overrides = ["optimizer.lr=0.01", "optimizer.head_lr=0.02"]
        whole = model()
        optimizer = attach(name, whole, *overrides)
        for _ in range(2):
            step(whole, optimizer)
        resumed = model()
        resumed.load_state_dict(whole.state_dict())
        again = attach(name, resumed, *overrides)
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # which shares its tensors
        for _ in range(2):
            assert step(whole, optimizer) == step(resumed, again)
        after = copies(whole)
        assert all(torch.equal(after[key], parameter) for key, parameter in copies(resumed).items())

    def test_frozen_weights_are_left_alone(self, name, attach):
        partly = model()
        partly[0].requires_grad_(False)
        before = copies(partly)
        step(partly, attach(name, partly, "optimizer.weight_decay=0.1"))
        changed = {key for key, after in copies(partly).items() if not torch.equal(before[key], after)}
        assert changed == {"1.classifier.weight", "1.classifier.bias"}
