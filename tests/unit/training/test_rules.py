"""The rules of a run: what a step under them reports. The rest is tested with whole runs."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from peftlab.regularizers.sam import Sam
from peftlab.tasks.batch import Batch
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.objective import Losses
from peftlab.training.rules import Rules
from peftlab.training.step import Step


def test_under_a_step_rule_loss_and_terms_are_of_the_same_weights():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def losses_of(batch):
        task, term = weight.pow(2).sum(), weight.sum()
        return Losses(task + term, task, None, {"term": term})

    batch = Batch({"x": torch.ones(1)}, {}, torch.ones(1), torch.zeros(1, dtype=torch.long), ["example"], tokens=1)
    step = Step([batch], [weight], MicroBatches("training", None, lambda *_, **__: None), nullcontext)
    rules = Rules({"sam": Sam(radius=0.5)}, nn.Module(), dict)
    rules.take_gradient(step, losses_of, None)
    assert (step.loss.item(), step.terms["term"].item()) == (32, 7)
