"""Projected gradient descent: closed forms of a logistic regression, and what holds on a real model."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import softplus

from peftlab.errors import UserError
from peftlab.regularizers.embeddings import Ball
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.outputs.mixing import Members, Mixture
from peftlab.use.predictor import Predictor
from peftlab.use.robustness.pgd import Pgd, ascend, check_embeddings, drawn
from peftlab.use.robustness.victim import Victim

W, X = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])


def logistic(perturbation: torch.Tensor) -> torch.Tensor:
    """Return the loss of a logistic regression at X, moved by the perturbation, with the label 1."""
    return softplus(-((X + perturbation) @ W)).sum(1)


def rows_of(*rows: int) -> Batch:
    """Return a batch whose rows belong to these examples."""
    number = max(rows) + 1
    return Batch({}, {}, torch.ones(number), torch.tensor(rows), [None] * number, tokens=0)


def climbed(losses, start=None, norm="l2", epsilon=0.5, steps=1, size=0.5):
    start = torch.zeros(1, 1, 2) if start is None else start
    mask = torch.ones(*start.shape[:2], 1)
    return ascend(losses, start, mask, Ball(epsilon, norm), rows_of(0), steps, size)


@pytest.mark.parametrize(("norm", "worst"), [("l2", 0.47408), ("linf", 0.97408)])
@pytest.mark.parametrize(("steps", "size"), [(1, 0.5), (10, 0.125)])
def test_the_worst_case_of_a_logistic_regression(norm, worst, steps, size):
    # softplus(-3 + epsilon * |w|), with |w| the dual norm: 5 of l2, and 7 of linf
    best = climbed(logistic, norm=norm, steps=steps, size=size)
    assert logistic(best).item() == pytest.approx(worst, abs=1e-5)
    assert logistic(torch.zeros(1, 1, 2)).item() == pytest.approx(0.04859, abs=1e-5)


def test_one_step_of_size_epsilon_is_the_fast_gradient_method():
    point = torch.zeros(1, 1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(logistic(point).sum(), point)
    assert torch.allclose(climbed(logistic), 0.5 * gradient / gradient.norm(), atol=1e-6)


def test_the_largest_loss_on_the_way_is_kept():
    # a step of size 3 overshoots the hill at 1, so that the start is better than where it leads
    start = torch.full((1, 1, 1), 0.9)
    best = climbed(lambda it: -(it - 1).square().sum((1, 2)), start, epsilon=4, size=3.0)
    assert best.item() == pytest.approx(0.9)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_random_start_is_in_the_ball_and_is_that_of_the_example_alone(norm):
    mask = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]).unsqueeze(-1)
    batch, ball = rows_of(0, 0, 1), Ball(0.5, norm)  # the first example has two rows
    start = drawn(ball, mask, batch, [7, 9], [0, 1], 8)
    for example in (0, 1):
        own = start[batch.rows == example]
        size = own.norm() if norm == "l2" else own.abs().max()
        assert 0.25 < size <= 0.5 + 1e-6
    assert not start[mask.squeeze(-1) == 0].any()
    alone = drawn(ball, mask[2:, :2], rows_of(0), [9], [0, 1], 8)
    assert torch.equal(alone[0], start[2, :2])
    assert not torch.equal(drawn(ball, mask, batch, [8, 9], [0, 1], 8)[0], start[0])


@pytest.fixture
def victim(pretrained, processor):
    def make(task, **options):
        return Victim(
            Predictor(model=pretrained.backbone(task), task=task, processor=processor, max_tokens=12, **options)
        )

    return make


SENTENCES = [
    Sentence("0", ["Paris", "is", "larger", "than", "Rome"], ["B-LOC", "O", "O", "O", "B-LOC"]),
    Sentence("1", ["nothing"], ["O"]),
    Sentence("2", ["Ada"] * 9, ["B-PER"] * 9),
]
TEXTS = [Text("0", "nothing happened", "neg"), Text("1", "Paris", "pos"), Text("2", "larger than Rome or so", "neg")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ner", "classification"])
def test_an_attack_raises_every_loss_and_does_not_depend_on_the_batch(victim, ner, classification, kind):
    task, examples = (ner(), SENTENCES) if kind == "ner" else (classification(), TEXTS)
    model = victim(task, long="split" if kind == "ner" else "truncate")
    attack = Pgd(epsilon=0.5, steps=3, restarts=2)
    clean, worst = model.judged(examples), attack.worst(model, examples)
    assert model.queries == 3 + 3 * 2 * (3 + 1 + 1)
    for before, after in zip(clean, worst, strict=True):
        assert after.loss > before.loss
        assert after.answer["id"] == before.answer["id"]
    model.predictor.batch_size = 1
    alone = attack.worst(model, examples)
    assert [one.loss for one in alone] == pytest.approx([one.loss for one in worst], rel=1e-4)
    assert all(not hooks._forward_hooks for hooks in model.predictor.model.modules())


def test_no_size_is_no_attack_and_more_is_worse(victim, classification):
    model = victim(classification())
    clean = [one.loss for one in model.judged(TEXTS)]
    none, some, more = (
        [one.loss for one in Pgd(epsilon=epsilon, steps=2, restarts=1).worst(model, TEXTS)]
        for epsilon in (1e-9, 0.1, 1.0)
    )
    assert none == pytest.approx(clean, abs=1e-6)
    assert all(a < b for a, b in zip(some, more, strict=True))


def test_all_members_of_an_ensemble_are_attacked(pretrained, processor, classification):
    """Two copies of one model answer as it does, and are no harder to attack."""
    task = classification()
    one = pretrained.backbone(task).eval()
    other = deepcopy(one)
    other.get_input_embeddings().weight = one.get_input_embeddings().weight
    both, worst = Members([one, other], Mixture([0.5, 0.5]), task.mixed), []
    for model in (one, both):
        victim = Victim(Predictor(model=model, task=task, processor=processor, max_tokens=12))
        worst.append([judged.loss for judged in Pgd(epsilon=0.5, steps=2, restarts=1).worst(victim, TEXTS)])
    assert worst[1] == pytest.approx(worst[0], abs=1e-6)


def test_a_model_without_input_embeddings_is_an_error():
    with pytest.raises(UserError, match=r"pgd: Linear has no input embeddings; leave pgd out"):
        check_embeddings("pgd", torch.nn.Linear(1, 1))
