"""Preference optimisation: a run, the reference that it is held to, and what is done with it afterwards."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import peftlab
from peftlab.errors import DataError
from peftlab.runs.folder import RunFolder
from peftlab.sources import cache_root
from peftlab.tasks.dpo import Dpo
from peftlab.terminal.signals import Interrupted
from peftlab.training.reference import Reference
from peftlab.use.check import check

pytestmark = pytest.mark.slow


GENERAL = "the river flows through rome"


@pytest.fixture
def train(tiny_run, tiny_preferences, language_model):
    def make(*overrides, run_dir="run", kind="llama"):
        data = [f"model.path={language_model(kind)}", "task=dpo", "data=preferences", f"data.path={tiny_preferences}"]
        small = ["data.max_tokens=64", "data.batch_size=8", "data.eval_batch_size=4"]
        record = peftlab.run(*tiny_run, *data, *small, f"run_dir={run_dir}", *overrides)
        assert record.data["status"] == "completed"
        return record

    return make


def rows_of(split="test", run_dir="run"):
    return [json.loads(line) for line in Path(f"{run_dir}/predictions/{split}.jsonl").read_text().splitlines()]


def test_a_run(train, language_model):
    Path("general.txt").write_text(GENERAL, encoding="utf-8")
    record = train("peft=lora", "optimizer.lr=1e-2", "budget.max_steps=8", "task.forgetting=general.txt")
    general = record.data["forgetting"]
    assert general["before"] == pytest.approx(perplexity(language_model("llama"), GENERAL), rel=1e-4)
    assert general["after"] != general["before"]
    (event,) = record.events("reference computed")
    assert event["splits"] == ["train", "validation", "test"]
    assert record.score("test", "loss") < math.log(2) - 0.01
    rows = rows_of()
    assert len(rows) == 8
    right = sum(row["predicted"] == row["gold"] for row in rows) / 8
    assert record.score("test", "accuracy") == right > 0.5
    margins = [row["rewards"]["chosen"] - row["rewards"]["rejected"] for row in rows]
    assert record.score("test", "margin") == pytest.approx(sum(margins) / 8, abs=1e-6)
    assert record.score("test", "loss") == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins) / 8, abs=1e-4)
    run = peftlab.load("run")
    assert run.evaluate().equal
    pair, prompt = {"prompt": "where is Noether ?", "chosen": "in Rome .", "rejected": "ask Acme"}, "where is Noether ?"
    compared, written = run.predict([pair, prompt])
    assert compared["predicted"] == "in Rome ."
    assert compared["probability"] > 0.5
    assert isinstance(written["written"], str)
    assert "".join(run.stream(prompt)) == written["written"]
    assert run.export("exported").largest_difference < 1e-5
    with pytest.raises(DataError, match=r"both `chosen` and `rejected`"):
        run.predict([{"prompt": prompt, "chosen": "in Rome ."}])


def perplexity(folder, text):
    """Return the perplexity of a plain text, its end included, to the pretrained model in `folder`."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.tensor([[*tokenizer(text).input_ids, tokenizer.eos_token_id]])
    with torch.no_grad():
        return math.exp(model(tokens, labels=tokens).loss)


def log_probabilities(folder, data):
    """Return the log probability of each answer of a file to the model in `folder`, one at a time, (rows,)."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    sums = []
    for line in data.read_text().splitlines():
        row = json.loads(line)
        for name in ("chosen", "rejected"):
            asked, answer = (
                [{"role": role, "content": value}] if isinstance(value, str) else value
                for role, value in (("user", row["prompt"]), ("assistant", row[name]))
            )
            before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
            whole = tokenizer.apply_chat_template([*asked, *answer], return_dict=False)
            whole = whole[: len(whole) - whole[::-1].index(tokenizer.eos_token_id)]
            with torch.no_grad():
                log_p = model(torch.tensor([whole])).logits[0, :-1].log_softmax(-1)
            sums.append(float(log_p[range(len(whole) - 1), whole[1:]][len(before) - 1 :].sum()))
    return torch.tensor(sums)


@pytest.fixture
def references(monkeypatch):
    """The reference values of each split of the runs that are made, by split."""
    seen = {}
    add = Reference.add

    def spy(self, splits):
        computed = add(self, splits)
        seen.update({split: self.data.splits[split].encoded.arrays["reference"] for split in splits})
        return computed

    monkeypatch.setattr(Reference, "add", spy)
    return seen


def test_the_reference_is_the_model_before_the_method(train, references, language_model, tiny_preferences):
    """A method that starts elsewhere, as prefixes do, or trains the model itself has the same reference."""
    expected = log_probabilities(language_model("llama"), tiny_preferences / "test.jsonl")
    for method in ("lora", "prefix_tuning", "full"):
        references.clear()
        record = train(f"peft={method}", "budget.max_steps=2", "optimizer.lr=1e-3", f"run_dir={method}")
        torch.testing.assert_close(torch.from_numpy(references["test"]), expected, atol=1e-4, rtol=1e-5)
        assert len(record.events("reference computed")) == (method == "lora")  # the others found it in the cache


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_before_training_a_model_is_its_own_reference(train, quantize):
    record = train("peft=lora", "optimizer.lr=1e-30", "budget.max_steps=1", f"model.quantize={quantize}")
    assert record.score("test", "loss") == torch.tensor(math.log(2)).item()
    assert {tuple(row["rewards"].values()) for row in rows_of()} == {(0.0, 0.0)}
    assert record.score("test", "accuracy") == 0.5


def test_a_run_that_is_interrupted_goes_on_with_the_same_bits(train, users_callbacks):
    """Whether the values of the reference are still in the cache or computed again."""
    schedule = ["peft=lora", "budget.max_steps=6", "trainer.checkpoint_every=2", "callbacks=[]"]
    whole = train(*schedule, run_dir="whole")
    signalled = users_callbacks("Signal", number=int(signal.SIGTERM), hook="on_train_batch_start", step=4)
    with pytest.raises(Interrupted):
        train(*schedule, *(each.replace("callbacks.users", "callbacks.progress") for each in signalled))
    shutil.rmtree(cache_root() / "encoded")
    resumed = train(*schedule)
    assert resumed.events("resumed")
    for file in ("checkpoints/best.safetensors", "trail.jsonl", "predictions/test.jsonl"):
        assert Path("run", file).read_bytes() == Path("whole", file).read_bytes()
    assert resumed.data["metrics"] == whole.data["metrics"]
    assert check(RunFolder(resumed)).causes == []


def test_a_reference_that_does_not_fit_in_memory_is_computed_in_pieces(train, references, monkeypatch):
    train("peft=lora", "budget.max_steps=1", run_dir="whole")
    whole = dict(references)
    shutil.rmtree(cache_root() / "encoded")
    of_batch = Dpo.reference_by_example

    def small(self, model, batch):
        if len(batch.examples) > 2:
            raise MemoryError("no more than two")
        return of_batch(self, model, batch)

    monkeypatch.setattr(Dpo, "reference_by_example", small)
    record = train("peft=lora", "budget.max_steps=1")
    assert {event["examples"] for event in record.events("out of memory")} == {4}
    for split, values in references.items():
        torch.testing.assert_close(torch.from_numpy(values), torch.from_numpy(whole[split]))


def test_new_pairs_are_scored_with_a_reference_of_their_own(train, tiny_preferences):
    train("peft=lora", "budget.max_steps=2", "optimizer.lr=1e-2")
    run = peftlab.load("run")
    lines = (tiny_preferences / "test.jsonl").read_text().splitlines()
    Path("new.jsonl").write_text("\n".join(lines[:5]))
    margin = {score.name: score.value for score in run.evaluate("new.jsonl").scores}["margin"]
    rewards = [row["rewards"] for row in rows_of()[:5]]
    assert margin == pytest.approx(sum(each["chosen"] - each["rejected"] for each in rewards) / 5, abs=1e-4)


def test_an_adapter_that_training_starts_from_is_the_reference(train):
    """A model that was tuned before is held to what it was then, also when the finished run is scored again."""
    train("peft=lora", "optimizer.lr=1e-2", "budget.max_steps=2", run_dir="before")
    record = train("peft=lora", "adapter=before/adapter", "optimizer.lr=1e-30", "budget.max_steps=1")
    assert len(record.events("reference computed")) == 1
    assert record.score("test", "loss") == torch.tensor(math.log(2)).item()
    assert peftlab.load("run").evaluate().equal


def test_clients_learn_the_same_in_processes_of_their_own(train):
    """Each process reads the values of the reference, and finds the user's own packages where the run did."""
    Path("mine.py").write_text(
        "from peftlab.tasks.dpo import Dpo\nfrom peftlab.tasks.task import spec\n\n@spec\nclass Mine(Dpo):\n    pass\n"
    )
    chosen = ["federated=fedavg", "federated.clients=2", "federated.rounds=1", "federated.local_epochs=null"]
    chosen += ["federated.local_steps=1", "budget.max_steps=null", "budget.test=false", "peft=lora"]
    chosen += ["allow=[mine]", "task._target_=mine.Mine"]
    losses = [
        train(*chosen, f"federated.processes={n}", run_dir=f"of_{n}").extensions["federated"]["rounds"][0]["loss"]
        for n in (0, 1)
    ]
    assert losses[0] == losses[1]


def test_a_client_with_nothing_to_learn_does_not_train_alone(train, tmp_path):
    pairs = [{"prompt": "where " * 90, "chosen": "in Rome .", "rejected": "ask Acme", "who": "first"}]
    pairs += [{"prompt": "where ?", "chosen": "in Rome .", "rejected": "ask Acme", "who": "second"}]
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    own = ["federated=local", "federated.clients=null", "federated.by=column", "federated.column=who"]
    with pytest.raises(DataError, match=r"the train split: nothing of its 1 examples counts.*answer is cut away"):
        train(f"data.path={tmp_path}", *own, "federated.only=0")
