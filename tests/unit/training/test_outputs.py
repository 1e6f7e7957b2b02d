from __future__ import annotations

import torch

from peftlab.training.outputs import Outputs
from peftlab.training.tuner import Tuner


def test_callbacks_get_the_loss_of_the_step():
    tuner, outputs = Tuner.__new__(Tuner), {"loss": torch.tensor(torch.nan)}
    tuner.__dict__["_step"] = type("Step", (), {"loss": torch.tensor(2.5)})
    Outputs().on_train_batch_end(None, tuner, outputs, [], 0)
    assert outputs["loss"] == 2.5
