"""Runs whose steps are recorded are the runs that they are otherwise; here without a GPU, so without a recording."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.errors import ConfigError, NonFiniteError
from peftlab.tasks.ner import Ner
from peftlab.terminal.signals import Interrupted
from peftlab.training.captured import Recording
from peftlab.training.non_finite import UNREAD

STATIC = ["trainer.static_shapes=true", "trainer.log_every=4", "budget.max_steps=12"]


def left(folder):
    names = ("metrics.csv", "trail.jsonl", "checkpoints/best.safetensors", "predictions/test.jsonl")
    return {name: Path(folder, name).read_bytes() for name in names}


@pytest.fixture
def recorded(monkeypatch, asked_of_recordings):
    """Have steps recorded from here on, as on a GPU, and checks wait; return how many steps were taken so."""

    def begin():
        def tell(reason):
            raise AssertionError(reason)

        monkeypatch.setattr("peftlab.one_run.recording", lambda spec, note: Recording(tell))
        monkeypatch.setitem(UNREAD, "cpu", 16)
        return asked_of_recordings

    return begin


@pytest.mark.one_in(4, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["peft=lora"],
        ["peft=full", "optimizer=sgd", "trainer.clip_norm=null"],
        ["peft=head", "trainer.cache_activations=true", "model.dropout=0", "model.attention_dropout=0"],
        ["regularizer=[rdrop,l2_sp,llrd]", "regularizer.rdrop.start_step=5", "trainer.precision=bf16-mixed"],
    ],
    ids=["lora", "sgd", "cached", "regularizers"],
)
def test_they_leave_the_same_files(run_tiny, recorded, options):
    run_tiny(*STATIC, *options, "run_dir=plain")
    taken = recorded()
    run_tiny(*STATIC, *options, "run_dir=recorded")
    assert sum(taken) > 5
    assert all(taken)
    assert left("recorded") == left("plain")


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_named_and_has_changed_nothing(run_tiny, recorded, monkeypatch):
    """It is seen by its tokens, since examples are no part of what is recorded."""
    losses, sums = Ner.losses, []

    def seen(self, outputs, batch):
        sums.append(int(batch.inputs["input_ids"].sum()))
        return losses(self, outputs, batch)

    def spoilt(self, outputs, batch):
        bad = batch.inputs["input_ids"].sum() == sums[5]
        return losses(self, outputs, batch) * torch.where(bad, torch.nan, 1.0)

    monkeypatch.setattr(Ner, "losses", seen)
    run_tiny(*STATIC, "run_dir=clean")
    monkeypatch.setattr(Ner, "losses", spoilt)
    messages = []
    for name in ("plain", "recorded"):
        if name == "recorded":
            taken = recorded()
        with pytest.raises(NonFiniteError, match="step 6") as refused:
            run_tiny(*STATIC, f"run_dir={name}")
        messages.append(str(refused.value))
        run_tiny(*STATIC, "trainer.on_nan=skip_batch", f"run_dir={name}_skipping")
    assert messages[0] == messages[1]
    assert sum(taken) > 10
    assert left("recorded_skipping") == left("plain_skipping")


@pytest.mark.slow
def test_resumed_it_is_the_run(run_tiny, recorded, signalled_at):
    recorded()
    run_tiny(*STATIC, "run_dir=whole")
    signalled_at(7)
    with pytest.raises(Interrupted):
        run_tiny(*STATIC, "run_dir=parts")
    run_tiny(*STATIC, "run_dir=parts")
    assert left("parts") == left("whole")


def test_there_are_no_graphs_on_a_cpu(run_tiny):
    with pytest.raises(ConfigError, match=r"trainer.cuda_graphs=true: there are none on a CPU"):
        run_tiny("trainer.cuda_graphs=true")
