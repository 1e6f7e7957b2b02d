"""Averages of weights in whole runs: what is kept, what training goes on with, and both over an interruption."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from peftlab.one_run import run
from peftlab.storage import trees
from peftlab.storage.checkpoints import path_of
from peftlab.terminal.signals import Interrupted
from peftlab.training.interruption import Interruption

pytestmark = pytest.mark.slow

LAST = 8


def test_an_average_is_kept_and_the_weights_go_on(compose_config, tiny_overrides, monkeypatch):
    """With SAM, in parts, and interrupted within the validation after step 6."""
    options = [
        "budget.max_steps=8",
        "budget.test=false",
        "callbacks=[]",
        "trainer.accumulate=2",
        "trainer.keep_every=1",
    ]

    def trained(name, regularizers):
        return run(compose_config(*tiny_overrides, *options, f"regularizer={regularizers}", f"run_dir={name}"))

    def checkpoint(name, step):
        tree = trees.read(path_of(without.folder.parent / name / "checkpoints", step))
        return tree["state_dict"], tree.get("weight_rules", {}).get("ema", {})

    def same(one, other):
        assert one.keys() == other.keys()
        return all(torch.equal(value, other[key]) for key, value in one.items())

    without, whole = trained("without", "[sam]"), trained("whole", "[sam,ema]")
    assert same(checkpoint("without", LAST)[0], checkpoint("whole", LAST)[0])

    best = load_file(whole.folder / "checkpoints" / "best.safetensors")
    weights, averages = checkpoint("whole", whole.data["selection"]["step"])
    assert same(best, averages)
    assert not same({f"model.{name}": value for name, value in best.items()}, weights)

    let_through = Interruption.on_validation_batch_end

    def signalling(self, trainer, *rest):
        if trainer.global_step == 6:
            monkeypatch.setattr(Interruption, "on_validation_batch_end", let_through)
            os.kill(os.getpid(), signal.SIGTERM)
        let_through(self, trainer, *rest)

    monkeypatch.setattr(Interruption, "on_validation_batch_end", signalling)
    with pytest.raises(Interrupted):
        trained("parts", "[sam,ema]")
    assert same(checkpoint("parts", 6)[0], checkpoint("without", 6)[0])  # not the averages, which were in their place
    resumed = trained("parts", "[sam,ema]")
    assert resumed.resumed_at == 6
    for part, other in zip(checkpoint("parts", LAST), checkpoint("whole", LAST), strict=True):
        assert same(part, other)
    assert same(load_file(resumed.folder / "checkpoints" / "best.safetensors"), best)
