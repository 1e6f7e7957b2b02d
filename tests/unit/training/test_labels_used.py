"""Which labels count as read, and what chooses by them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from lightning.pytorch.callbacks import EarlyStopping

from peftlab.errors import ConfigError
from peftlab.training.labels_used import label_budget, refuse_stopping


@pytest.mark.parametrize(("monitor", "chooses"), [("validation/macro_f1", True), ("train/loss", False)])
def test_only_a_validation_score_reads_labels_to_stop(monitor, chooses):
    stopping = EarlyStopping(monitor)
    budget = SimpleNamespace(select="last", max_steps=None)
    examples = SimpleNamespace(examples=[None] * 3, encoded=None, rows=3)
    task = SimpleNamespace(decides=False, weights=lambda *_: np.ones(3))
    splits = {"train": examples, "validation": examples}
    data = SimpleNamespace(budget=budget, task=task, splits=splits, aside={}, spec=SimpleNamespace(aside=None))
    section = label_budget(data, [stopping], 5)
    assert (section["selected_on"], section["selects"]) == ((3, ["early stopping"]) if chooses else (0, []))
    if not chooses:
        return refuse_stopping(budget, {"early_stopping": stopping})
    with pytest.raises(ConfigError, match=r"callbacks\.early_stopping would end the training by a validation score"):
        refuse_stopping(budget, {"early_stopping": stopping})
