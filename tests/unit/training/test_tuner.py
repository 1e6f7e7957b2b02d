"""The LightningModule: what it makes of a step beside the gradient. The rest of it is tested with whole runs."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import torch
from torch import nn

from peftlab.regularizers.sam import Sam
from peftlab.tasks.batch import Batch
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.objective import Losses
from peftlab.training.step import Step
from peftlab.training.tuner import Tuner


def test_under_a_step_rule_loss_and_terms_are_of_the_same_weights():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def losses_of(batch):
        task, term = weight.pow(2).sum(), weight.sum()
        return Losses(task + term, task, None, {"term": term})

    batch = Batch({"x": torch.ones(1)}, {}, torch.ones(1), torch.zeros(1, dtype=torch.long), ["example"], tokens=1)
    step = Step([batch], [weight], MicroBatches("training", None, lambda *_, **__: None), nullcontext)
    Tuner.take_gradient(SimpleNamespace(step_rule=Sam(radius=0.5), losses_of=losses_of), step)
    assert (step.loss.item(), step.terms["term"].item()) == (32, 7)
