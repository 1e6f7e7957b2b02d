"""Whole steps on tensors that stay where they are: what is kept of them, and what a step that is left out changes."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from peftlab.regularizers.l2_sp import L2Sp
from peftlab.tasks.batch import Batch
from peftlab.training import captured as module
from peftlab.training.captured import Captured, Recording, form
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.non_finite import FiniteGuard
from peftlab.training.objective import Losses
from peftlab.training.rules import Rules
from peftlab.training.step import Step


def batch(rows: int, value: float = 1.0, **options) -> Batch:
    random = torch.Generator().manual_seed(rows)
    inputs = {"x": value * torch.randn(rows, 3, generator=random)}
    return Batch(
        inputs, {}, torch.ones(rows).double(), torch.arange(rows), [f"e{n}" for n in range(rows)], rows, **options
    )


class Model(nn.Sequential):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Dropout(0.5), nn.Linear(3, 2))
        self.calls = 0

    def losses(self, of: Batch) -> Losses:
        self.calls += 1
        loss = of.mean(self(of.inputs["x"]).pow(2).sum(-1))
        return Losses(
            loss + loss.detach().abs(), loss, terms={"own": loss.abs()}, figures={"own": {"size": loss.detach()}}
        )


class Training:
    """A model with an optimiser, and a rule that acts after a step."""

    def __init__(self, optimizer=torch.optim.AdamW, on_nan="skip_batch", **options):
        self.model = Model()
        self.parameters = list(self.model.parameters())
        self.optimizer = optimizer(self.parameters, lr=0.1, weight_decay=0.1, fused=True, **options)
        self.rule = L2Sp(strength=0.5)
        self.rules = Rules({"l2_sp": self.rule}, self.model, lambda: dict(self.model.named_parameters()))
        self.rules.begin(self.optimizer)
        self.reasons = []
        self.guard = FiniteGuard(on_nan, lambda *_, **__: None)
        self.captured = Captured(
            self.reasons.append, self.optimizer, 1.0, self.guard, self.rules, self.model.losses, nullcontext
        )

    def step(self, *parts):
        return Step(parts, self.parameters, MicroBatches("training", None, lambda *_, **__: None), nullcontext)

    def take(self, of):
        step = self.step(of)
        taken = self.captured.take(step)
        return None if taken is None else (step, *taken)

    def state(self):
        tensors = [value for of_weight in self.optimizer.state.values() for value in of_weight.values()]
        return [tensor.detach().clone() for tensor in (*self.parameters, *tensors)]


@pytest.fixture(params=["adamw", "sgd"])
def training(request):
    return Training() if request.param == "adamw" else Training(torch.optim.SGD, momentum=0.9)


def test_the_results_of_a_step_are_its_own(training):
    first, norm, bad = training.take(batch(4))
    kept = [float(first.loss), float(first.terms["own"]), float(first.figures["own"]["size"]), float(norm)]
    assert bad == 0
    assert first.counted == 4
    second, other, _ = training.take(batch(4, value=3.0))
    assert kept == [float(first.loss), float(first.terms["own"]), float(first.figures["own"]["size"]), float(norm)]
    assert kept[0] != float(second.loss)
    assert kept[3] != float(other)
    assert kept[0] == pytest.approx(2 * kept[1])


def test_a_step_that_is_not_finite_changes_nothing_even_as_the_first(training):
    for number in range(2):
        before = training.state()
        step, norm, bad = training.take(batch(4, value=torch.nan))
        assert bad == 1
        assert norm.isnan()
        assert step.loss.isnan()
        after = training.state()
        assert all(torch.equal(*both) for both in zip(before, after[: len(before)], strict=True))
        assert all(tensor.isfinite().all() for tensor in after)
        if number == 0:
            _, _, bad = training.take(batch(4))
            assert bad == 0
            assert not torch.equal(training.parameters[0], before[0])


def test_it_goes_on_as_a_training_that_never_had_the_step(training):
    other = Training(
        type(training.optimizer), **({"momentum": 0.9} if "momentum" in training.optimizer.defaults else {})
    )
    for value in (1.0, torch.nan, 2.0):
        random = torch.get_rng_state()
        training.take(batch(4, value=value))
        if value == value:
            torch.set_rng_state(random)
            other.take(batch(4, value=value))
    assert all(map(torch.equal, training.state(), other.state()))


def test_the_learning_rate_is_that_of_the_step():
    training = Training()
    training.take(batch(4))
    before = training.state()
    training.optimizer.param_groups[0]["lr"] = 0.0
    training.take(batch(4))
    assert torch.equal(training.parameters[0], before[0])
    assert training.optimizer.param_groups[0]["lr"] == 0.0


def test_a_shape_is_recorded_once_and_so_is_each_share_of_a_step():
    training = Training()
    for of, calls in [
        (batch(4), 3),  # twice rehearsed, as the first of all, and done
        (batch(4, value=2.0), 1),
        (batch(5), 2),
        (batch(4, scale=0.0), 2),
        (batch(4), 1),
    ]:
        training.model.calls = 0
        assert training.take(of) is not None
        assert training.model.calls == calls
    assert len({form(of) for of in (batch(4), batch(4, value=2.0), batch(5), batch(4, scale=0.0))}) == 3


def test_beyond_the_most_shapes_steps_are_taken_without_a_recording(monkeypatch):
    monkeypatch.setattr(module, "MOST", 1)
    recorded, alike = Training(), Training()
    monkeypatch.setattr(alike.captured.graphs, "record", None)
    alike.captured._recorded["another"] = None
    for number, rows in enumerate((4, 5, 4)):
        for training in (recorded, alike):
            torch.manual_seed(number)
            training.take(batch(rows))
    assert all(map(torch.equal, recorded.state(), alike.state()))


def test_what_cannot_be_recorded_is_left_to_others_and_nothing_has_changed():
    training = Training()
    before, random = training.state(), torch.get_rng_state()
    assert training.captured.take(training.step(batch(2), batch(2))) is None  # several parts
    assert training.reasons == []
    training.model.losses = training.captured.losses_of = lambda of: of.host["words"]
    assert training.take(batch(4)) is None
    assert training.reasons == ["KeyError: 'words'"]
    assert training.take(batch(5)) is None
    assert len(training.reasons) == 1  # it is said once
    assert all(map(torch.equal, training.state(), before))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in training.parameters)


def test_where_memory_runs_out_smaller_batches_are_still_recorded():
    training = Training()
    losses = training.captured.losses_of

    def small(of):
        if len(of.weights) > 4:
            raise MemoryError
        return losses(of)

    training.captured.losses_of = small
    assert training.take(batch(5)) is None
    assert training.take(batch(5)) is None
    assert training.take(batch(4)) is not None
    assert training.reasons == []


def test_once_the_run_has_to_end_the_device_leaves_out_all_that_comes():
    """Until the host has looked; rehearsals of further shapes do not count."""
    training = Training(on_nan="stop")
    training.take(batch(4))
    before = training.state()
    assert [float(training.take(of)[2]) for of in (batch(4, value=torch.nan), batch(5), batch(4))] == [1, 1, 1]
    assert all(map(torch.equal, training.state(), before))


def recording(tell, obstacle=None, **options):
    training, own = Training(**options), Recording(tell)
    own.begin(obstacle, training.optimizer, 1.0, training.guard, training.rules, training.model.losses, nullcontext)
    return own, training


def numbered(training, number):
    step = training.step(batch(4))
    step.number = number
    return step


def test_the_first_step_of_a_training_is_never_recorded():
    own, training = recording(print)
    assert own.take(numbered(training, 1)) is None
    assert own.take(numbered(training, 2)) is not None
    assert own.is_on
    own.end()
    assert not own.is_on


def test_what_is_in_the_way_is_said_once():
    reasons = []
    assert not recording(reasons.append, "a callback")[0].is_on
    own, training = recording(reasons.append)
    training.model.losses = own.captured.losses_of = lambda of: of.host["words"]
    assert own.take(numbered(training, 2)) is own.take(numbered(training, 3)) is None
    assert not own.is_on
    assert reasons == ["a callback", "KeyError: 'words'"]
    assert not recording(None)[0].is_on
