"""The focal loss."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from peftlab.regularizers.focal import Focal
from peftlab.tasks.batch import Batch
from peftlab.tasks.outputs.distributions import Distributions


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_of_what_is_predicted_with_certainty_the_gradient_is_zero_and_no_nan(gamma):
    logits = torch.tensor([[40.0, -40.0]], requires_grad=True)  # a probability of 1 in fp32
    task = SimpleNamespace(distributions=lambda outputs, _: Distributions(outputs, torch.tensor([0]), torch.ones(1)))
    batch = Batch({}, {}, torch.ones(1), torch.zeros(1, dtype=torch.long), ["one"], tokens=1)
    Focal(gamma=gamma).losses(SimpleNamespace(task=task, outputs=logits, batch=batch)).sum().backward()
    assert logits.grad.tolist() == [[0, 0]]
