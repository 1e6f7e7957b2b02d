"""The objective is put together in one place, and an evaluation reports the task's loss alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from peftlab.regularizers.rdrop import RDrop
from peftlab.tasks.batch import Batch
from peftlab.training.objective import Objective, evaluated

BATCH = SimpleNamespace(factors=None)


class Task:
    def loss(self, outputs, batch):
        assert batch is BATCH
        return outputs.logits.sum()


@pytest.fixture
def outputs():
    return SimpleNamespace(logits=torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True))


@pytest.mark.parametrize("penalty", [None, torch.tensor(0.5)])
def test_it_is_the_loss_of_the_task_and_the_penalty_of_the_method(outputs, penalty):
    method = SimpleNamespace(penalty=lambda model: penalty)
    losses = Objective(Task(), method, None)(lambda batch: outputs, BATCH)
    assert losses.task == 3
    assert losses.penalty is penalty
    assert losses.total == (3 if penalty is None else 3.5)
    if penalty is None:
        assert losses.total is losses.task  # not a bit is touched


def test_factors_of_examples_weigh_their_losses():
    task = SimpleNamespace(losses=lambda outputs, batch: outputs.logits)
    method = SimpleNamespace(penalty=lambda model: None)
    batch = Batch({}, {}, torch.tensor([2.0, 1.0]).double(), torch.arange(2), ["a", "b"], 3)
    batch.factors = torch.tensor([0.25, 1.0]).double()
    outputs = SimpleNamespace(logits=torch.tensor([4.0, 3.0], requires_grad=True))
    losses = Objective(task, method, None)(lambda batch: outputs, batch)
    assert losses.total.item() == pytest.approx((0.25 * 4 + 3) / (0.25 * 2 + 1))
    losses.total.backward()
    assert outputs.logits.grad.tolist() == pytest.approx([0.25 / 1.5, 1 / 1.5])


def test_two_passes_have_equal_parts_in_what_other_terms_leave_of_the_loss():
    task = SimpleNamespace(
        loss=lambda outputs, batch: outputs.mean(),
        losses=lambda outputs, batch: outputs,
        divergences=lambda one, other, batch: torch.zeros(2),
    )
    other = SimpleNamespace(
        losses=lambda computed: torch.zeros(2), replaces=0.8, start_step=1, from_embeddings=False, from_gradient=False
    )
    batch = Batch({}, {}, torch.ones(2), torch.arange(2), ["a", "b"], 3)
    passes = [torch.tensor([4.0, 2.0], requires_grad=True), torch.tensor([1.0, 3.0], requires_grad=True)]
    left = iter(passes)
    terms = {"rdrop": RDrop(strength=1.0), "other": other}
    objective = Objective(task, SimpleNamespace(penalty=lambda model: None), None, terms)
    losses = objective(lambda _: next(left), batch)
    assert losses.total.item() == pytest.approx(0.2 * (3 + 2) / 2)
    losses.total.backward()
    assert [own.grad.tolist() for own in passes] == [pytest.approx([0.05, 0.05])] * 2


def test_an_evaluation_reports_the_loss_of_the_task_in_single_precision(outputs):
    loss = evaluated(Task(), outputs, BATCH)
    assert (loss, loss.dtype) == (3, torch.float32)
