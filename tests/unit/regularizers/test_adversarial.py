"""Adversarial terms against closed forms for a logistic model: w=(3,4), x=(1,0), so that the clean loss is .04859."""

from __future__ import annotations

import math

import pytest
import torch
from tests.unit.regularizers.conftest import Logistic, batch_of
from torch.nn import functional as F

from peftlab.regularizers.fgm import Fgm
from peftlab.regularizers.freelb import FreeLb
from peftlab.regularizers.pgd import Pgd
from peftlab.regularizers.repeatable import RepeatablePass
from peftlab.regularizers.smart import Smart
from peftlab.regularizers.vat import Vat

CLEAN, WORST, WORST_LINF = 0.04859, 0.47408, 0.97408
"""The losses at x, at the worst point within .5 in the L2 norm, and in the maximum norm."""


def test_the_worst_losses_in_closed_form(computed_for):
    batch = batch_of([[0]])
    for term, expected in (
        (Fgm(share=1.0, epsilon=0.5), WORST),
        (Fgm(share=1.0, epsilon=0.5, norm="linf"), WORST_LINF),
        (Pgd(share=1.0, epsilon=0.5, step_size=0.2, steps=4), WORST),
        (Pgd(share=1.0, epsilon=0.5, step_size=0.2, steps=4, norm="linf"), WORST_LINF),
        (Pgd(share=1.0, epsilon=0.5, step_size=9.0, steps=3, init="uniform"), WORST),
    ):
        computed = computed_for(batch)
        assert computed.task.losses(computed.outputs, batch).item() == pytest.approx(CLEAN, abs=1e-5)
        assert term.losses(computed).item() == pytest.approx(expected, abs=1e-4), term
        assert computed.figures["perturbation_norm"].item() == pytest.approx(0.5, abs=1e-5)
        assert computed.figures["loss_rise"].item() == pytest.approx(expected - CLEAN, abs=1e-4)


def test_one_step_of_pgd_is_fgm(computed_for):
    batch = batch_of([[0, 1], [2], [2, 2]], gold=[1, 0, 1])
    one = Pgd(epsilon=0.7, steps=1, step_size=0.7).losses(computed_for(batch))
    torch.testing.assert_close(one, Fgm(epsilon=0.7).losses(computed_for(batch)))


def test_freelb_is_the_mean_along_the_way(computed_for, objective_for):
    batch = batch_of([[0]])
    along = [math.log1p(math.exp(-3 + 0.2 * 5 * k)) for k in range(3)]
    term = FreeLb(epsilon=0.5, step_size=0.2, steps=3)
    losses = objective_for(freelb=term)(computed_for(batch).forward, batch)
    assert losses.total.item() == pytest.approx(sum(along) / 3, abs=1e-5)
    assert FreeLb(steps=1).off == "steps=1 from init=zero"  # that is the clean loss


def gradients(model, losses):
    model.weight.grad = None
    losses.total.backward()
    return model.weight.grad.clone()


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_the_gradient_is_that_of_the_mixed_loss(model, computed_for, objective_for, scale):
    """By finite differences of the loss at fixed perturbations, though each pass is differentiated at once."""
    batch = batch_of([[0, 1], [2], [2, 2]], gold=[1, 0, 1])
    forward = computed_for(batch).forward
    loss_scale = None if scale is None else torch.tensor(scale)
    for term in (Fgm(share=0.3, epsilon=0.5), FreeLb(epsilon=0.5, step_size=0.25, steps=3)):
        objective = objective_for(term=term)
        for factors in (None, torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)):
            batch.factors = factors
            losses = objective(forward, batch, loss_scale=loss_scale)
            model.weight.grad = None
            losses.total.backward(loss_scale)
            found = model.weight.grad / (scale or 1)

            passes = embeddings_seen(model, objective, forward, batch)
            shares = [1 - term.replaces] + [term.replaces / (len(passes) - 1)] * (len(passes) - 1)
            weight = model.weight.detach().clone().requires_grad_()
            expected = torch.zeros(())
            for share, embeddings in zip(shares, passes, strict=True):
                logit = (embeddings * batch.inputs["attention_mask"].unsqueeze(-1)).sum(1) @ weight
                own = F.cross_entropy(
                    torch.stack([torch.zeros_like(logit), logit], -1), batch.targets["labels"], reduction="none"
                )
                expected = expected + share * batch.mean(own)
            (gradient,) = torch.autograd.grad(expected, weight)
            torch.testing.assert_close(losses.total, expected.to(losses.total.dtype), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def embeddings_seen(model, objective, forward, batch):
    """Return the embeddings of each pass of `objective`, perturbed."""
    seen = []

    def watched(batch):
        def note(_module, _inputs, output):  # registered last, it sees what the other hooks made of it
            seen.append(output.detach().clone())

        handle = model.embeddings.register_forward_hook(note)
        try:
            return forward(batch)
        finally:
            handle.remove()

    objective(watched, batch)
    return seen


def test_both_passes_have_the_same_dropout_masks(task, objective_for):
    model = Logistic(dropout=0.5)
    model.train()
    batch = batch_of([[0, 1], [2], [2, 2]])
    first = []

    def forward(batch):
        outputs = model(**batch.inputs)
        first.append(outputs.logits.detach())
        return outputs

    torch.manual_seed(0)
    repeatable = RepeatablePass(model, forward, batch, [model.weight])
    after = torch.get_rng_state()
    repeatable.repeat(torch.zeros_like(repeatable.like))
    assert torch.equal(*first)
    assert torch.equal(torch.get_rng_state(), after)  # and what is drawn later is as if there had been one pass


def test_vat_is_the_second_order_of_the_divergence(computed_for):
    batch = batch_of([[0]])
    p, epsilon = 1 / (1 + math.exp(-3)), 0.01
    computed = computed_for(batch)
    loss = Vat(epsilon=epsilon, probe=1e-2).losses(computed).item()
    assert loss == pytest.approx(epsilon**2 * p * (1 - p) * 25 / 2, rel=0.03)


def test_smart_is_twice_that(computed_for):
    """Its divergence goes both ways, and its steps end on the ball."""
    batch = batch_of([[0]])
    p, epsilon = 1 / (1 + math.exp(-3)), 0.01
    term = Smart(epsilon=epsilon, norm="l2", steps=3, step_size=0.01, noise=1e-4)
    assert term.losses(computed_for(batch)).item() == pytest.approx(epsilon**2 * p * (1 - p) * 25, rel=0.03)


def test_special_tokens_are_left_alone(computed_for):
    batch = batch_of([[0]])
    computed = computed_for(batch, special=torch.tensor([0]))
    assert Fgm(share=1.0, epsilon=0.5).losses(computed).item() == pytest.approx(CLEAN, abs=1e-5)
    assert computed.figures["loss_rise"].item() == 0
