"""The mean of the last weights, against torch's, and over a resumption."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from peftlab.regularizers.swa import Swa


def test_it_is_the_mean_that_torch_computes():
    model, rule = nn.Linear(3, 2), Swa(start=0.5)
    theirs = AveragedModel(model)
    rule.begin(dict(model.named_parameters()))
    torch.manual_seed(0)
    for step in range(1, 10):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        if step == 7:
            state = rule.state()
            rule = Swa(start=0.5)
            rule.load_state(state)
        rule.after_step(dict(model.named_parameters()), step, 9)
        if step > 4.5:
            theirs.update_parameters(model)
        else:
            assert rule.acted() is None
            assert rule.averaged() == rule.state() == {}
    assert rule.acted() == {"weights": 8}
    for name, average in rule.averaged().items():
        torch.testing.assert_close(average, theirs.module.get_parameter(name).detach())
    assert rule.averaged().keys() == {"weight", "bias"}
