"""Instruction tuning: packed runs and others, the proof before their first step, and what is done with them."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import peftlab
from peftlab.errors import ConfigError
from peftlab.runs.record import RunRecord
from peftlab.tasks.causal_lm import CausalLm

PLACES = ["rome", "paris", "france", "the river"]


def lines(count, seed):
    """Return conversations of several forms and lengths as JSON Lines."""
    draw, rows = random.Random(seed), []
    for n in range(count):
        place = draw.choice(PLACES)
        asked, answer = " ".join(["what is the name of", place] * draw.randint(1, 3)), f"it is {place}"
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        rows.append(
            {"text": f"the capital of {place} is {place}"}
            if n % 8 == 7
            else {"messages": turns + turns * (n % 4 == 3)}
            if n % 2
            else {"instruction": asked, "input": "", "output": answer}
        )
    return "\n".join(map(json.dumps, rows)) + "\n"


@pytest.fixture
def train(tiny_run, language_model, tmp_path):
    """Return a maker of runs on a tiny Llama and 32, 8 and 8 conversations."""
    folder = tmp_path / "conversations"
    folder.mkdir()
    for seed, (name, count) in enumerate({"train": 32, "dev": 8, "test": 8}.items()):
        (folder / f"{name}.jsonl").write_text(lines(count, seed), encoding="utf-8")

    def make(*overrides, run_dir="run", kind="llama"):
        data = [f"model.path={language_model(kind)}", "task=causal_lm", "data=conversations", f"data.path={folder}"]
        small = ["data.max_tokens=96", "data.bucket_batches=1", "task.generate.max_new_tokens=6"]
        record = peftlab.run(*tiny_run, *data, *small, f"run_dir={run_dir}", *overrides)
        assert record.data["status"] == "completed"
        return record

    return make


def rows_of(split="test", run_dir="run"):
    return [json.loads(line) for line in Path(f"{run_dir}/predictions/{split}.jsonl").read_text().splitlines()]


def test_a_packed_run_and_what_is_done_with_it(train, capsys):
    Path("general.txt").write_text("the river flows through rome\n\nand paris is the name\n", encoding="utf-8")
    record = train("optimizer.lr=1e-2", "budget.max_steps=8", "task.forgetting=general.txt")
    general = record.data["forgetting"]
    assert f"forgetting: {Path('general.txt').absolute()}" in Path("run/config.yaml").read_text()
    assert general["tokens"] > 10
    assert 250 < general["before"] < 350  # of a vocabulary of 300
    assert general["after"] != general["before"]
    proof = record.data["shared_rows"]
    assert proof["rows"] < proof["examples"] == 8
    assert proof["largest_difference"] <= 1e-5
    assert "shared rows: 8 examples in" in capsys.readouterr().out
    names = {score["name"] for score in record.scores("test")}
    assert {"perplexity", "exact_match", "chrf", "rougeL", "stop_rate", "mean_length", "loss"} <= names
    rows = rows_of()
    assert [row["predicted"] is None for row in rows] == [row["input"] is None for row in rows]  # plain texts
    assert sum(row["input"] is None for row in rows) == 1
    tokens, logs = (sum(row[key] for row in rows) for key in ("tokens", "log_probability"))
    assert record.score("test", "loss") == pytest.approx(-logs / tokens, rel=1e-4)
    run = peftlab.load("run")
    assert run.evaluate().equal
    (answer,) = run.predict([{"messages": rows[0]["input"]}])
    assert answer["written"] == rows[0]["predicted"]


@pytest.mark.slow
def test_texts_are_written_by_all_layers_where_training_starts_from_activations(train):
    record = train("peft.layers=last:1", "peft.lora_dropout=0", "task.packing=off", "budget.max_steps=2")
    assert record.data["cost"]["activation_cache"]["layers"] == 1
    assert any(row["predicted"] for row in rows_of())
    assert peftlab.load("run").evaluate().equal


@pytest.mark.slow
def test_forgetting_is_that_of_the_weights_that_are_kept(train):
    """Of their average, whether the last validation or the test is what measures them."""
    Path("general.txt").write_text("the river flows through rome\n\nand paris is the name\n", encoding="utf-8")
    chosen = ["regularizer=[ema]", "optimizer.lr=1e-2", "budget.max_steps=8", "budget.select=last", "callbacks=[]"]
    chosen += ["task.forgetting=general.txt", "task.generate.at=never"]
    records = [train(*chosen, f"budget.test={test}", run_dir=f"test_{test}") for test in ("true", "false")]
    tested, validated = (record.data["forgetting"]["after"] for record in records)
    assert validated == pytest.approx(tested, rel=1e-6)


@pytest.mark.slow
def test_packed_and_unpacked_runs_learn_the_same(train):
    """One identity, and the same weights up to rounding; with two passes a step, too."""
    packed = train("seed=1", "trainer.accumulate=2", run_dir="packed")
    apart = train("seed=1", "task.packing=off", "trainer.accumulate=2", run_dir="apart")
    assert packed.data["identity"] == apart.data["identity"]
    assert "shared_rows" not in apart.data
    assert packed.score("test", "loss") == pytest.approx(apart.score("test", "loss"), rel=1e-5)
    weights, expected = (load_file(f"{run}/adapter/adapter_model.safetensors") for run in ("packed", "apart"))
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_proof_compares_what_can_share_a_row_and_in_full_precision(train):
    """Among long texts, the short ones alone share rows; and answers of two tokens are rounded by more than others."""
    file, rows = Path("conversations/train.jsonl"), [{"prompt": "the river " * 28, "answer": "rome"}] * 30
    short = [{"prompt": "the river", "answer": place} for place in PLACES[:2]]
    file.write_text("\n".join(map(json.dumps, rows + short)), encoding="utf-8")
    chosen = ["budget.max_steps=1", "data.max_tokens=112"]
    proof = train(*chosen, "trainer.precision=bf16-mixed").data["shared_rows"]
    assert proof["rows"] == proof["examples"] - 1
    assert proof["largest_difference"] <= 1e-5
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    proof = train(*chosen, run_dir="alone").data["shared_rows"]
    assert proof == {"examples": proof["examples"], "rows": proof["examples"], "largest_difference": 0.0}


@pytest.mark.slow
def test_a_model_that_lets_examples_see_each_other_is_found_out(train, monkeypatch):
    """With a cache of keys and values, transformers takes positions that begin anew for those of one text."""
    monkeypatch.setattr(CausalLm, "head_settings", lambda task: {"initializer_range": 1.0})
    with pytest.raises(ConfigError, match=r"task\.packing=bfd: in a row with others.*Set task\.packing=off"):
        train("peft=full")
    assert RunRecord.load(Path("run")).data["status"] == "failed"


@pytest.mark.slow
def test_what_reads_rows_works_on_packed_ones_or_is_refused(train):
    chosen = ["regularizer=[neftune,fgm,rdrop]", "trainer.static_shapes=true", "budget.max_steps=2"]
    record = train(*chosen, kind="gpt2", run_dir="regularised")  # a model with dropout
    assert record.data["regularizers"].keys() == {"neftune", "fgm", "rdrop"}
    with pytest.raises(ConfigError, match=r"regularizer\.mixup: it mixes rows.*task\.packing=off"):
        train("regularizer=[mixup]", run_dir="mixed")
    train("trainer.static_shapes=true", "task.packing=off", "budget.max_steps=2", run_dir="static_apart")


@pytest.mark.slow
def test_a_run_on_plain_texts_needs_no_template(train, language_model, tmp_path):
    model = shutil.copytree(language_model("gpt2"), tmp_path / "model")
    (model / "chat_template.jinja").unlink()
    texts = "\n".join(json.dumps({"text": f"the capital of {place} is {place}"}) for place in PLACES * 2)
    for name in ("train", "dev", "test"):
        Path(f"conversations/{name}.jsonl").write_text(texts, encoding="utf-8")
    train(f"model.path={model}", "budget.max_steps=2")
    run = peftlab.load("run")
    assert len(run.predict(["the capital of"], max_new_tokens=2)[0]["written"].split()) <= 2
    run.export("plain")
    card = Path("plain/README.md").read_text(encoding="utf-8")
    assert "apply_chat_template" not in card
    assert "tokenizer('...'" in card


@pytest.mark.slow
def test_a_template_is_kept_with_the_run(train, tmp_path):
    path = tmp_path / "own.jinja"
    path.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", encoding="utf-8")
    train(f"task.template={path}", "budget.max_steps=2")
    path.unlink()
    assert peftlab.load("run").evaluate().equal
