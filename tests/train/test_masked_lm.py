"""A run that predicts hidden tokens, and runs of other tasks that start from what it has learnt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import peftlab
from peftlab.data.module import DataModule
from peftlab.errors import ConfigError, UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def texts(tiny_texts, tmp_path):
    """A folder with the texts of the tiny data, one a line, without labels."""
    folder = tmp_path / "plain"
    folder.mkdir()
    for name in ("train", "dev", "test"):
        _, *lines = (tiny_texts / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        plain = [line.rpartition(",")[0].strip('"') for line in lines]
        (folder / f"{name}.txt").write_text("\n".join(plain) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def train(tiny_run, texts):
    def make(*overrides, run_dir="run"):
        given = ["task=masked_lm", "data=texts", f"data.path={texts}", f"run_dir={run_dir}"]
        record = peftlab.run(*tiny_run, *given, *overrides)
        assert record.data["status"] == "completed"
        return record

    return make


def classify(tiny_run, tiny_texts, *overrides):
    data = ["task=classification", "data=csv", f"data.path={tiny_texts}"]
    return peftlab.run(*tiny_run, *data, *overrides).data


def test_a_run_and_what_starts_from_it(train, tiny_run, tiny_texts, capsys):
    record = train("peft=lora", "trainer.accumulate=2")
    assert (
        "lack a part of the language model's head, which begins anew and is trained: cls.predictions"
        in capsys.readouterr().out
    )
    assert {score["name"] for score in record.scores("test")} == {"perplexity", "masked_accuracy", "loss"}
    run = peftlab.load("run")
    assert run.evaluate().equal
    rows = [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    assert {row["gold"] for row in rows} == {None}
    (answer,) = run.predict(["maria moved from [MASK] to rome ."])
    assert len(answer["fills"]) == 1
    assert len(answer["fills"][0]) == 5
    with pytest.raises(UserError, match="robustness: no example of the test split has gold of its own"):
        run.robustness(["typo"])
    exported = run.export("exported")
    assert exported.largest_difference < 1e-4
    assert plain_fills("exported", "maria moved from [MASK] to rome .") == list(answer["fills"][0])

    # another task starts from the whole model, or from the adapter alone
    given = [override for override in tiny_run if not override.startswith("model.path")]
    assert classify([*given, "model.path=exported"], tiny_texts, "run_dir=whole")["status"] == "completed"
    capsys.readouterr()
    assert (
        classify(tiny_run, tiny_texts, "peft=lora", "adapter=run/adapter", "run_dir=started")["status"] == "completed"
    )
    assert "its head has layers that this model's has not; not taken" in capsys.readouterr().out


def plain_fills(folder, text):
    """Return the five tokens that transformers alone puts in the place of the mask."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForMaskedLM, AutoTokenizer))
    inputs = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        logits = model.eval()(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
    return tokenizer.convert_ids_to_tokens(logits[0].topk(5).indices.tolist())


def test_a_head_in_the_weights_stays_as_it_is(train, tiny_model, tmp_path):
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    BertForMaskedLM(BertConfig.from_pretrained(tiny_model)).save_pretrained(tmp_path / "whole")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "whole")
    train("peft=lora", f"model.path={tmp_path / 'whole'}")
    assert not [name for name in load_file("run/adapter/adapter_model.safetensors") if "cls" in name]
    for peft, message in (("prompt_tuning", "the head of a masked language model"), ("head", "is pretrained")):
        with pytest.raises(ConfigError, match=message):
            train(f"peft={peft}", f"model.path={tmp_path / 'whole'}", run_dir="refused")


def test_activations_are_not_kept_of_inputs_that_change(train):
    with pytest.raises(ConfigError, match="task=masked_lm draws the model's inputs anew in every epoch"):
        train("peft=head", "trainer.cache_activations=true")


def test_the_masks_are_the_same_whatever_divides_or_interrupts_the_training(train, monkeypatch):
    """Loading processes, and a stop in mid-epoch, change no bit of the trail."""
    options = ["peft=lora", "budget.max_steps=10", "trainer.checkpoint_every=1"]
    train(*options)
    trail = Path("run/trail.jsonl").read_bytes()
    train(*options, "data.workers=2", run_dir="workers")
    assert Path("workers/trail.jsonl").read_bytes() == trail

    class Stop(Exception):
        pass

    taken = []
    serve = DataModule.transfer_batch_to_device

    def stopping(self, *args, **keywords):
        taken.append(1)
        if len(taken) == 5:
            raise Stop
        return serve(self, *args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(DataModule, "transfer_batch_to_device", stopping)
        with pytest.raises(Stop):
            train(*options, run_dir="parts")
    train(*options, run_dir="parts")
    assert Path("parts/trail.jsonl").read_bytes() == trail
