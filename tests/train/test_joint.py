"""Intents and slots: a run, its answers, and what is done with it afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

import peftlab
from peftlab.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture
def train(tiny_run, tiny_utterances):
    def make(*overrides, run_dir="run"):
        data = ["task=joint", "data=intents", f"data.path={tiny_utterances}", "data.max_tokens=64"]
        record = peftlab.run(*tiny_run, *data, f"run_dir={run_dir}", *overrides)
        assert record.data["status"] == "completed"
        return record

    return make


def test_a_run(train):
    record = train("peft=lora", "trainer.accumulate=2", "augment=[mention]", "regularizer=[rdrop]")
    run = peftlab.load("run")
    assert run.evaluate().equal
    rows = [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    for row in rows:
        intent, *words = row["probabilities"]
        assert sum(intent.values()) == pytest.approx(1, abs=1e-5)
        assert intent[row["predicted"]["intent"]] == max(intent.values())
        assert len(words) == len(row["input"]) == len(row["predicted"]["tags"])
    right = sum(row["predicted"] == row["gold"] for row in rows) / 16
    assert record.score("test", "sentence_accuracy") == right
    assert {table.stem for table in Path("run/tables/test").iterdir()} == {"slots", "intents", "confusion"}
    (answer,) = run.predict(["Maria moved to New York"])
    assert answer["intent"] in answer["intents"]
    assert answer["probability"] == max(answer["intents"].values())
    assert run.robustness(["typo"], limit=8).outcomes
    assert run.export("exported").largest_difference < 1e-4
    assert "its intent is the label with the highest logit" in Path("exported/README.md").read_text()


def test_parallel_files_give_the_same_run(train, tiny_utterances, tmp_path):
    for name in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (tiny_utterances / f"{name}.jsonl").read_text().splitlines()]
        folder = tmp_path / "files" / name
        folder.mkdir(parents=True)
        for file, lines in {
            "seq.in": [" ".join(row["words"]) for row in rows],
            "seq.out": [" ".join(row["tags"]) for row in rows],
            "label": [row["intent"] for row in rows],
        }.items():
            (folder / file).write_text("\n".join(lines) + "\n")
    plain = train("peft=head")
    parallel = train("peft=head", "data=parallel", f"data.path={tmp_path / 'files'}", run_dir="parallel")
    assert parallel.scores("test") == plain.scores("test")


def test_prompts_leave_the_intent_at_the_first_token_of_the_text(train):
    train("peft=prompt_tuning")
    assert peftlab.load("run").evaluate().equal


def test_a_decoder_is_refused(train, language_model, tmp_path):
    """Also one whose texts begin with a special token: it sees nothing of the text."""
    tokenizer = AutoTokenizer.from_pretrained(shutil.copytree(language_model("llama"), tmp_path / "llama"))
    start = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start[0]} $A", special_tokens=[start])
    tokenizer.save_pretrained(tmp_path / "llama")
    with pytest.raises(ConfigError, match=r"^task=joint: .* that of a llama is a decoder's, which sees none"):
        train(f"model.path={tmp_path / 'llama'}")
