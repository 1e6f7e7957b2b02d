"""Tasks of a user's own, a file and an option each."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import peftlab
from peftlab.composing.compose import conf_dir
from peftlab.data.augmentation.delete import Delete
from peftlab.data.module import DataModule
from peftlab.data.static_shapes import StaticShapes
from peftlab.errors import ConfigError, DataError

pytestmark = pytest.mark.slow

EXAMPLE = conf_dir().parent / "examples" / "own_tasks"
WORDS = ["paris", "rome", "warsaw", "is", "larger", "than", "moved", "from", "to", "the", "in", "said"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Stand in a copy of the example, as the user would; return a maker of tiny finished runs."""
    folder = tmp_path / "own_tasks"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # as python -m does
    monkeypatch.setattr(sys, "modules", dict(sys.modules))  # my_tasks of this test only

    def make(task, model, *overrides):
        given = [f"task={task}", f"data={task}", f"data.path={tmp_path / 'data'}", "allow=[my_tasks]"]
        given += ["model=folder", f"model.path={model}", "trainer=cpu", "trainer.precision=32-true"]
        given += ["data.batch_size=4", "budget=smoke", "budget.max_steps=2", "run_dir=run", *overrides]
        record = peftlab.run(*given, config_dir="my_conf")
        assert record.data["status"] == "completed"
        return record.data, peftlab.load("run", allow=["my_tasks"])

    return make


def write(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("train", "dev", "test"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def predictions() -> list[dict]:
    return [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]


def check(record, run, task: str) -> None:
    """A run's scores are those of its predictions, and the loaded model has them again."""
    again = run.evaluate()
    assert again.equal is True
    scorer, rows = run.spec.task.scorer, predictions()
    scores = {one["name"]: one["value"] for one in record["metrics"] if one["split"] == "test"}
    assert scorer.details(scorer.total(rows)).items() <= scores.items()
    assert np.isfinite(scores["loss"])
    assert record["name"].startswith(task)
    data = DataModule(run.spec.data, run.spec.task, run.processor, run.spec.budget, seed=0)
    data.load()
    batches = [part for batch in data.train_dataloader() for part in batch]
    assert sum(batch.tokens for batch in batches) == data.splits["train"].encoded.tokens.sum()
    check_static_shapes(run, batches[-1])
    assert all({"id", "input", "gold", "predicted", "probability", "group"} <= row.keys() for row in rows)


@torch.no_grad()
def check_static_shapes(run, batch) -> None:
    """Padding changes neither losses nor answers, and what fills a batch up has no part in its loss."""
    task, model, static = run.spec.task, run.model, StaticShapes(run.max_tokens(run.model))
    wide, filled = static.padded(batch), static.padded(batch, size=7)
    assert filled.shape[0] == 7 > batch.shape[0]
    assert wide.shape == batch.shape if not batch.padding else wide.shape[1] == static.width(batch.shape[1])
    losses, predicted = [], []
    for each in (batch, wide, filled):
        outputs = model(**each.inputs)
        losses.append(each.mean(task.losses(outputs, each)))
        if each is not filled:
            predicted.append([answer["predicted"] for answer in task.answers(outputs, each, model, True)])
    torch.testing.assert_close(losses, losses[:1] * 3)
    assert predicted[0] == predicted[1]


@pytest.mark.parametrize("peft", ["lora", "houlsby", "prompt_tuning"])
def test_spans(run, tiny_model, tmp_path, peft):
    context = "paris is larger than rome and the warsaw report"
    pairs = [("what is larger ?", "paris"), ("than what ?", "rome"), ("which report ?", "warsaw report")]
    rows = [{"question": q, "context": context, "answer": a, "start": context.index(a)} for q, a in pairs * 3]
    write(tmp_path / "data", rows)
    record, done = run("answers", tiny_model, f"peft={peft}")
    check(record, done, "answers")
    assert {row["gold"] for row in predictions()} == {"paris", "rome", "warsaw report"}
    (answer,) = done.predict([{"question": "than what ?", "context": context}])
    assert context.startswith(answer["answer"], answer["start"])
    assert 0 <= answer["probability"] <= 1
    with pytest.raises(DataError, match="expected `question` and `context`"):
        done.predict(["paris"])


def test_spans_are_augmented_around_their_answers(run, tiny_model, tmp_path):
    context = "the report was read by rome . the warsaw report is larger"
    rows = [{"question": "which report ?", "context": context, "answer": "warsaw report", "start": 34}] * 8
    write(tmp_path / "data", rows)
    names = ["swap", "delete", "insert", "typo", "mask"]
    chosen = [f"augment=[{','.join(names)}]", *(f"augment.{name}.share=1" for name in names)]
    record, done = run("answers", tiny_model, "data.max_tokens=64", *chosen)
    assert {name: record["augmentation"][name]["examples"] for name in names} == dict.fromkeys(names, 8)
    task, generator = done.spec.task, np.random.default_rng(0)
    question = task.example("train:0", **rows[0])
    deletes = Delete(alpha=1)
    edited = task.edited(question, [deletes.edit(text, generator) for text in task.editable(question)])
    assert (edited.context, edited.answer, edited.start) == (". warsaw report", "warsaw report", 2)
    assert task.edited(question, task.editable(question)) == question


def test_what_does_not_say_how_it_is_edited_is_not(run, tiny_t5, tmp_path):
    write(tmp_path / "data", [{"source": "paris", "target": "rome"}] * 4)
    with pytest.raises(ConfigError, match="task=rewriting does not say which words of an example may"):
        run("rewriting", tiny_t5, "augment=[mask]")


def test_the_command_of_the_readme(run, command, tiny_model):
    (line,) = re.findall(r"^peftlab train (.*)", Path("README.md").read_text(), re.MULTILINE)
    tiny = ["model=folder", f"model.path={tiny_model}", "trainer=cpu", "budget=smoke", "budget.max_steps=2"]
    tiny += ["data.max_tokens=64"]
    assert command(*shlex.split(line), *tiny, "run_dir=run").code == 0
    assert peftlab.load("run", allow=["my_tasks"]).record.data["data"]["splits"]["train"]["rows"] == 6


def test_they_are_exported(run, tiny_model, tmp_path, monkeypatch):
    write(tmp_path / "data", [{"question": "what moved ?", "context": "rome moved", "answer": "rome", "start": 0}] * 4)
    _, done = run("answers", tiny_model)
    assert done.export("exported").largest_difference < 1e-5
    card = Path("exported/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir("exported")
    exec(code, loaded := {})
    assert type(loaded["model"]).__name__.endswith(done.spec.task.head.model.removeprefix("AutoModel"))
    assert callable(loaded[done.spec.task.processor])


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    vocabulary = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("peft", ["lora", "full"])
def test_generation(run, tiny_t5, tmp_path, peft):
    sources = ["paris is larger than rome", "the rome moved", "paris said"]
    write(tmp_path / "data", [{"source": text, "target": text.split()[0]} for text in sources * 3])
    record, done = run("rewriting", tiny_t5, f"peft={peft}", "task.longest=4")
    check(record, done, "rewriting")
    assert record["method"]["trainable_parameters"] > 0
    texts = [row["predicted"] for row in predictions()]
    answers = done.predict(sources)
    assert [answer["written"] for answer in answers] == texts[:3]
    assert all(len(text.split()) <= 4 for text in texts)


def test_a_pretrained_head_is_no_new_one_to_train(run, tiny_t5, tmp_path):
    write(tmp_path / "data", [{"source": "paris", "target": "rome"}] * 4)
    with pytest.raises(peftlab.errors.ConfigError, match="is pretrained"):
        run("rewriting", tiny_t5, "peft=head")
    assert not Path("run").exists()
