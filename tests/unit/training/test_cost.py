from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from peftlab.tasks.batch import Batch
from peftlab.training import cost as cost_module
from peftlab.training.cost import Cost, peak_memory_gib


@pytest.fixture
def cost(monkeypatch, clock):
    monkeypatch.setattr(cost_module, "time", SimpleNamespace(perf_counter=clock))
    return Cost()


def test_samples_tokens_and_steps_of_training_are_counted(cost, train):
    train(cost, 4, 4, 2, epochs=2)
    totals = cost.totals()
    assert (cost.samples, cost.tokens) == (20, 60)
    assert totals["steps"] == 6
    assert totals["epochs"] == 2
    assert totals["samples_per_second"] == pytest.approx(20 / 6, abs=0.01)
    assert totals["tokens_per_second"] == 60 / 6


def test_validation_takes_none_of_the_training_time(cost, train, clock):
    began = clock.now
    train(cost, 4, 4, 2, epochs=2)
    assert cost.totals()["train_seconds"] == 6
    assert cost.totals()["wall_seconds"] == clock.now - began == 6 + 2 * 2 * 100


def test_a_validation_after_the_training_takes_none_either(cost, train, clock):
    trainer, module = train(cost, 4, epochs=1)
    before = cost.totals()["train_seconds"]
    for _ in range(2):
        trainer.validate(module, trainer.val_dataloaders, verbose=False)
        clock.now += 50
    assert cost.totals()["train_seconds"] == before == 1


def test_part_of_an_epoch(cost, train):
    train(cost, 4, 4, 4, 4, epochs=-1, max_steps=6)
    assert cost.totals()["epochs"] == 1.5


def test_steps_are_those_of_the_optimizer(cost, train):
    train(cost, (4, 4), (4, 3), epochs=1)
    assert cost.totals()["steps"] == 2
    assert (cost.samples, cost.positions) == (15, 15 * 8)


def test_the_share_of_padding_and_the_shapes_are_told_where_there_are_tokens(cost, train):
    train(cost, 4, 4, 2, epochs=2)
    assert not {"token_share", "shapes"} & cost.totals().keys()  # no input can be padded


def test_padding_is_told_of_whole_trainings(train, clock, monkeypatch):
    monkeypatch.setattr(cost_module, "time", SimpleNamespace(perf_counter=clock))
    whole, first, resumed = Cost(), Cost(), Cost()
    step = [
        Batch({"x": torch.ones(rows, 8)}, {}, torch.ones(rows), torch.arange(rows), [], 3 * rows) for rows in (4, 2)
    ]
    for part in step:
        part.padding = {"x": 0}
    trainer = SimpleNamespace(global_step=1, current_epoch=0, num_training_batches=1)
    for each, parts in ((whole, step), (first, step[:1])):
        each.on_train_batch_end(trainer, None, None, parts, 0)
    assert (whole.totals()["token_share"], whole.totals()["shapes"]) == (3 / 8, 2)
    resumed.load_state_dict(first.state_dict())
    resumed.on_train_batch_end(trainer, None, None, step[1:], 0)
    assert {key: resumed.totals()[key] for key in ("token_share", "shapes")} == {"token_share": 3 / 8, "shapes": 2}


def test_the_arithmetic_of_a_linear_layer(cost, train):
    train(cost, 4, 4, 4, epochs=2)
    # a product of (4, 8) and (8, 4) forward, and one as large for the gradient of the weights; inputs need none
    a_batch = 2 * (2 * 4 * 8 * 4)
    assert cost.totals()["train_flops"] == 6 * a_batch


def test_the_arithmetic_grows_with_the_positions_of_later_batches(cost, train):
    train(cost, 4, 2, 6, epochs=1)
    assert cost.totals()["train_flops"] == 2 * (2 * (4 + 2 + 6) * 8 * 4)


def test_what_a_term_adds_counts_from_the_step_that_it_begins_with(train, clock):
    """Also where the training is resumed."""

    def trained(cost, first, *rows):
        module = train.one_layer(clock)
        module.objective = SimpleNamespace(begins=lambda step: first + step == 3)
        once, steps = module.training_step, iter(range(first + 1, 9))

        def step(batch, batch_idx):
            return sum(once(batch, batch_idx) for _ in range(2 if next(steps) >= 3 else 1))

        module.training_step = step
        train(cost, *rows, epochs=1, module=module)
        return cost

    a_row = 2 * 2 * 8 * 4
    whole = trained(Cost(), 0, 4, 2, 6, 5).totals()["train_flops"]
    assert whole == (4 + 2 + 2 * 6 + 2 * 5) * a_row
    resumed = Cost()
    resumed.load_state_dict(trained(Cost(), 0, 4, 2).state_dict())
    assert trained(resumed, 2, 6, 5).totals()["train_flops"] == whole


def test_frozen_weights_cost_no_gradient(cost, train, clock):
    module = train.one_layer(clock)
    module.layer.requires_grad_(False)
    module.scale = torch.nn.Parameter(torch.ones(()))
    module.layer.register_forward_hook(lambda _, __, output: output * module.scale)
    train(cost, 4, epochs=1, module=module)
    assert cost.totals()["train_flops"] == 2 * 4 * 8 * 4


def test_a_failure_in_a_step_stops_the_clock_and_the_counting(cost, train, clock):
    module = train.one_layer(clock)
    whole_step = module.training_step

    def failing(batch, batch_idx):
        whole_step(batch, batch_idx)
        raise RuntimeError("out of memory")

    module.training_step = failing
    with pytest.raises(RuntimeError, match="out of memory"):
        train(cost, 4, module=module)
    clock.now += 50
    assert cost.totals()["train_seconds"] == 1
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


@pytest.mark.slow
def test_a_forward_pass_that_is_given_up_leaves_nothing_while_arithmetic_is_counted(cost):
    """The first batch may be too large for the memory; its activations must make room for its pieces."""
    layers = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(4)))
    cost.on_train_batch_start(None, layers)
    try:
        states = layers[0](torch.ones(3, 4)).tanh()
        logits = layers(states)
        kept = weakref.ref(states)
        del states, logits
        gc.collect()  # once, as after a refusal
        assert kept() is None
    finally:
        cost.on_exception(None, None, None)
    assert cost._counter is None


def test_without_training_nothing_is_divided_by_zero(cost):
    totals = cost.totals()
    assert totals.pop("peak_memory_gib") > 0
    assert (totals.pop("energy_joules"), totals.pop("energy_counted")) == (None, [])
    assert set(totals.values()) == {0}


def test_a_resumed_run_keeps_the_peak_of_its_first_part(cost, train, monkeypatch):
    cost.load_state_dict(cost.state_dict() | {"peak_memory_gib": 7.0})
    monkeypatch.setattr(cost_module, "peak_memory_gib", lambda on_gpu: 2.0)
    train(cost, 4, epochs=1)  # with a validation
    assert cost.totals()["peak_memory_gib"] == 7


def test_peak_memory_is_in_gib(monkeypatch):
    monkeypatch.setattr(cost_module, "peak_memory", lambda: 3 * 2**30)
    assert peak_memory_gib(on_gpu=False) == 3
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2**31)
    assert peak_memory_gib(on_gpu=True) == 2


def test_a_run_on_the_cpu_of_a_machine_with_a_gpu_has_the_memory_of_its_process(cost, train, monkeypatch):
    cost._on_gpu = True  # as the machine has one
    monkeypatch.setattr(cost_module, "peak_memory", lambda: 3 * 2**30)
    train(cost, 4, epochs=1)
    assert cost.totals()["peak_memory_gib"] == 3
