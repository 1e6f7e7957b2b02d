"""A run of an encoder-decoder: texts are written when they are asked for, and stand by what the record says."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import peftlab
from peftlab.errors import ConfigError
from peftlab.runs.folder import RunFolder
from peftlab.storage.digests import file_sha256
from peftlab.use.check import check

pytestmark = pytest.mark.slow

TEXTS = {"exact_match", "chrf", "bleu", "rouge1", "rouge2", "rougeL"}


@pytest.fixture
def train(tiny_run, tiny_headlines, language_model):
    def make(*overrides, run_dir="run", kind="t5"):
        data = [f"model.path={language_model(kind)}", "data=source_target", f"data.path={tiny_headlines}"]
        small = ["task=seq2seq", "task.generate.max_new_tokens=8", "optimizer.lr=1e-2", f"run_dir={run_dir}"]
        record = peftlab.run(*tiny_run, *data, *small, "logger=csv", *overrides)
        assert record.data["status"] == "completed"
        return record

    return make


def rows_of(split="test", run_dir="run"):
    return [json.loads(line) for line in Path(f"{run_dir}/predictions/{split}.jsonl").read_text().splitlines()]


def logged(name, run_dir="run"):
    with Path(f"{run_dir}/metrics.csv").open() as file:
        return [row[name] for row in csv.DictReader(file) if row.get(name)]


def test_a_run(train, language_model):
    halves = "the river flows through", "rome and paris"
    Path("general.txt").write_text(" ".join(halves), encoding="utf-8")
    own = ["task.prefix=title: ", "task.forgetting=general.txt"]
    record = train("peft=lora", "budget.validate_every=0.34", "trainer.accumulate=2", *own)
    general, folder = record.data["forgetting"], language_model("t5")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokens = tokenizer(halves[0], text_target=halves[1], return_tensors="pt")
    assert general["tokens"] == tokens["labels"].numel()
    with torch.no_grad():
        assert general["before"] == pytest.approx(math.exp(model(**tokens).loss), rel=1e-4)
    assert general["after"] != general["before"]
    finer = {"stop_rate", "mean_length"}
    assert {score["name"] for score in record.scores("test")} == {*TEXTS, *finer, "perplexity", "loss"}
    assert len(logged("validation/perplexity")) > len(logged("validation/chrf")) == 1  # the last one alone
    rows = rows_of()
    assert len(rows) == 16
    run = peftlab.load("run")
    assert run.evaluate().equal
    answers = run.predict([{"source": row["input"]} for row in rows])
    assert [answer["written"] for answer in answers] == [row["predicted"] for row in rows]
    assert not check(RunFolder(record)).causes

    rows[3]["predicted"] = "§§"  # the scores stay: it is as unlike the gold as what was written
    file = Path("run/predictions/test.jsonl")
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    for one in record.data["files"]:
        if one["path"] == "predictions/test.jsonl":
            one |= {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    record.write()
    found = check(RunFolder(record)).causes
    assert "differently" in str(found)


def test_texts_of_every_validation_may_select(train):
    record = train("peft=full", "task.generate.at=always", "task.selection.metric=chrf", "budget.validate_every=0.34")
    assert record.data["selection"]["metric"] == "chrf"
    assert len(logged("validation/chrf")) == len(logged("validation/perplexity")) > 1
    assert record.data["selection"]["value"] == max(map(float, logged("validation/chrf")))


def test_without_texts_there_is_a_perplexity(train, capsys):
    options = ["task.generate.num_beams=2", "task.generate.seed=3"]
    record = train("peft=lora", "task.generate.at=never", *options, kind="bart")
    assert {score["name"] for score in record.scores("test")} == {"perplexity", "loss"}
    assert {row["predicted"] for row in rows_of()} == {None}
    (told,) = (line for line in capsys.readouterr().out.splitlines() if "no effect: task.generate" in line)
    assert "task.generate.seed=3: it acts only with task.generate.do_sample=true" in told


def test_what_cannot_be_is_refused(train):
    """A score that no validation has, to select by or to watch, and sources of two targets."""
    for wrong, message in (
        (["task.selection.metric=rougeL"], r"'rougeL'.*generate\.at=always"),
        (["callbacks=early_stopping", "callbacks.early_stopping.monitor=validation/rougeL"], "validation/rougeL"),
        (["regularizer=[mixup]"], r"regularizer\.mixup: .*the target of one example to predict that of the other"),
    ):
        with pytest.raises(ConfigError, match=message):
            train("peft=lora", *wrong)
