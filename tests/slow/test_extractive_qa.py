"""Questions about texts, by other ways to the same result: several windows are one example, however it is computed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import peftlab
from peftlab.terminal.signals import Interrupted
from peftlab.training.trail import Trail
from peftlab.use.check import check
from peftlab.use.reproduce import reproduce

pytestmark = pytest.mark.slow

EXACT = ["model.dropout=0", "model.attention_dropout=0", "budget.max_steps=7", "trainer.trail_every=1"]
EXACT += ["optimizer=sgd", "optimizer.lr=0.05", "optimizer.algorithm.fused=false", "logger=[]", "callbacks=[]"]
"""Of what an optimiser like Adam does with a gradient that is nearly zero, the sign is left to rounding."""


@pytest.fixture
def trained(tiny_run, tiny_questions):
    def make(name, *overrides):
        given = ["task=qa", "data=questions", f"data.path={tiny_questions}", "data.max_tokens=20", "task.stride=6"]
        return peftlab.run(*tiny_run, *given, "task.no_answer=true", *EXACT, *overrides, f"run_dir={name}")

    return make


def losses(record):
    points = map(json.loads, (record.folder / "trail.jsonl").read_text().splitlines()[2:])  # after names and beginning
    return [float(point["loss"]) for point in points]


def answers(record):
    return [json.loads(line) for line in (record.folder / "predictions" / "test.jsonl").read_text().splitlines()]


@pytest.mark.exhaustive
def test_windows_are_divided_padded_and_cached_to_the_same_result(trained):
    plain = {
        peft: trained(f"plain_{peft}", f"peft={peft}", "trainer.cache_activations=false") for peft in ("lora", "head")
    }
    assert any(row["predicted"] for row in answers(plain["lora"]))
    ways = {
        "accumulated": ["peft=lora", "trainer.accumulate=3"],
        "two devices": ["peft=lora", "trainer.devices=2"],
        "static shapes": ["peft=lora", "trainer.static_shapes=true"],
        "cached": ["peft=head", "trainer.cache_activations=true"],
        "two workers": ["peft=lora", "data.workers=2"],
        "small batches of evaluation": ["peft=lora", "data.eval_batch_size=3"],
    }
    for way, overrides in ways.items():
        record = trained(way.replace(" ", "_"), *overrides)
        expected = plain[overrides[0].removeprefix("peft=")]
        assert losses(record) == pytest.approx(losses(expected), rel=1e-4), way
        for one, other in zip(answers(record), answers(expected), strict=True):
            assert one["predicted"] == other["predicted"], way
            assert one["probability"] == pytest.approx(other["probability"], rel=1e-3), way
            assert one["null_margin"] == pytest.approx(other["null_margin"], rel=1e-3, abs=1e-4), way


def test_an_interrupted_run_goes_on_to_the_same_bits(trained, monkeypatch):
    whole = trained("whole", "model.dropout=0.1", "trainer.checkpoint_every=2")
    after = Trail.on_train_batch_end

    def interrupted(self, trainer, *args):
        after(self, trainer, *args)
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trail, "on_train_batch_end", interrupted)
        with pytest.raises(Interrupted):
            trained("again", "model.dropout=0.1", "trainer.checkpoint_every=2")
    again = trained("again", "model.dropout=0.1", "trainer.checkpoint_every=2")
    assert again.data["decisions"] == whole.data["decisions"]
    for name in ("trail.jsonl", "predictions/validation.jsonl", "predictions/test.jsonl", "adapter/decisions.json"):
        assert Path("again", name).read_bytes() == Path("whole", name).read_bytes(), name


def test_the_run_check_and_reproduce_agree(trained):
    record = trained("run")
    assert not check(peftlab.load("run").folder).causes
    assert reproduce(record.folder).verdict == "identical"


def test_it_learns(trained):
    """Who or what a sentence begins with; every third question is about something that no text tells."""
    learning = ["peft=full", "optimizer=adamw", "optimizer.lr=3e-3", "budget.max_steps=60", "budget.validate_every=10"]
    record = trained("learnt", *learning)
    assert record.score("test", "f1") > 0.8
    assert record.score("test", "exact_match") > 0.7
