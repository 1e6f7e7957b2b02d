"""What regularisers did first: recorded once, and an error where it is nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from peftlab.errors import ConfigError
from peftlab.regularizers.confidence_penalty import ConfidencePenalty
from peftlab.regularizers.swa import Swa
from peftlab.training.effects import Effects

ONE_DEVICE = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor)


def step(term: float, entropy: float, counted: int):
    figures = {"entropy": torch.tensor(entropy)}
    return SimpleNamespace(
        terms={"x": torch.tensor(term)}, figures={"x": figures}, counted=counted, device=torch.device("cpu")
    )


def test_the_first_step_in_which_a_term_can_act_is_recorded():
    recorded = []
    effects = Effects({"x": ConfidencePenalty(start_step=2)}, keep=recorded.append)
    effects.after_step(step(9.0, 9.0, 9), 1, ONE_DEVICE)  # it has not started
    effects.after_step(step(0.0, 0.0, 0), 2, ONE_DEVICE)  # none of the examples counts in the loss
    effects.after_step(step(-0.5, 6.0, 3), 3, ONE_DEVICE)
    effects.after_step(step(0.0, 0.0, 3), 4, ONE_DEVICE)
    assert recorded == [{"x": {"step": 3, "passes": 0, "term": -0.5, "entropy": 2.0}}]


def test_a_term_that_does_nothing_ends_the_run():
    effects = Effects({"x": ConfidencePenalty()})
    with pytest.raises(ConfigError, match=r"regularizer\.x: it did nothing in step 1: entropy is 0"):
        effects.after_step(step(-0.5, 0.0, 3), 1, ONE_DEVICE)
    assert Effects({"x": ConfidencePenalty()}, recorded={"x": {}}).pending == {}


def test_what_never_acted_is_told_when_the_training_is_over(caplog):
    effects = Effects({"x": ConfidencePenalty(start_step=9), "y": Swa(), "z": ConfidencePenalty()}, recorded={"z": {}})
    effects.after_step(SimpleNamespace(), 5, ONE_DEVICE)
    effects.after_training(5)
    assert caplog.messages == [
        f"no effect: regularizer.{name} has not acted: the training ended with step 5" for name in "xy"
    ]
