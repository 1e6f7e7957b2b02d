"""A packed batch in pieces, or with activations computed again, makes the same steps; its memory is told before."""

from __future__ import annotations

import json

import pytest

import peftlab
from peftlab.training import preflight

pytestmark = pytest.mark.slow


@pytest.fixture
def train(tiny_run, language_model, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for split, count in {"train": 32, "validation": 8, "test": 8}.items():
        rows = [{"prompt": f"what is {n}", "answer": "the river " * (1 + n % 3)} for n in range(count)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(run_dir, *overrides, kind="llama"):
        chosen = [f"model.path={language_model(kind)}", "task=causal_lm", "data=conversations", f"data.path={data}"]
        small = ["callbacks=[]", "data.max_tokens=200", "task.generate.at=never", "peft=lora", "optimizer.lr=1e-2"]
        return peftlab.run(*tiny_run, *chosen, *small, f"run_dir={run_dir}", *overrides)

    return make


def test_the_same_steps_in_pieces_and_with_checkpoints(train, small_memory, capsys, monkeypatch):
    whole = train("whole")
    before = train("before", "budget.max_steps=1", "optimizer.lr=1e-9")
    assert whole.score("test", "loss") < before.score("test", "loss") - 0.01
    expected = whole.data["cost"]["memory"]["expected_gib"]
    assert expected > whole.data["cost"]["memory"]["activations_gib"]
    said = "".join(capsys.readouterr())
    assert "GiB expected at the peak; a step: weights" in said
    assert "a step is expected to need" not in said
    monkeypatch.setattr(preflight, "free_memory", lambda: 1000)
    others = {
        "forward": train("forward", *small_memory("forward")),
        "checkpoints": train("checkpoints", "trainer.gradient_checkpointing=true"),
        "full": train("full", "peft=full", "optimizer.lr=1e-3"),
        "full_checkpoints": train("c", "peft=full", "optimizer.lr=1e-3", "trainer.gradient_checkpointing=true"),
    }
    assert "or set trainer.gradient_checkpointing=true" in "".join(capsys.readouterr())
    assert others["forward"].events("out of memory")
    for name, record in others.items():
        like = others["full"] if name.startswith("full") else whole
        assert record.score("test", "loss") == pytest.approx(like.score("test", "loss"), rel=1e-5), name
    kept, again = (record.data["cost"]["memory"]["activations_gib"] for record in (whole, others["checkpoints"]))
    assert again < kept
