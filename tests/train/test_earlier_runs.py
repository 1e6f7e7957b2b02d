"""Runs that are not to forget what earlier ones have learnt: replay, EWC, DER++, LwF, and frozen earlier updates."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from peftlab.data.listed import write_list
from peftlab.errors import ConfigError, UserError
from peftlab.one_run import prepare
from peftlab.terminal.signals import Interrupted
from peftlab.training.interruption import Interruption
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

SHORT = ["task=classification", "budget.max_steps=4", "optimizer.lr=1e-2"]
OLD, NEW = "move hire report", "report nothing compare"
"""The labels of two sets of texts, which share one."""


def rows(folder, labels):
    """Write the texts of a folder that have some `labels` as CSV, and return that folder."""
    made = Path(labels.replace(" ", "_")).absolute()
    made.mkdir(exist_ok=True)
    for file in folder.iterdir():
        header, *lines = file.read_text().splitlines()
        kept = [line for line in lines if line.rpartition(",")[2] in labels.split()]
        (made / file.name).write_text("\n".join([header, *kept]) + "\n")
    return made


@pytest.fixture
def data(tiny_texts):
    """Return the function from labels to the overrides for the texts with these, and more labels that are declared."""

    def choose(labels, more=""):
        declared = f"data.labels=[{','.join(dict.fromkeys([*more.split(), *labels.split()]))}]"
        return ["data=csv", f"data.path={rows(tiny_texts, labels)}", *([declared] if more else [])]

    return choose


@pytest.fixture
def old(run_once, data):
    """A run on the texts with the first labels."""
    return run_once("old labels", *SHORT, *data(OLD))


@pytest.fixture
def after(run_tiny, data, old):
    """Return the function that trains on the other texts, from the old run's adapter, under further overrides."""

    def train(name, *overrides, adapter=True):
        begun = [f"adapter={old.folder}/adapter"] if adapter else []
        return run_tiny(*SHORT, *data(NEW, OLD), *begun, f"run_dir={name}", *overrides)

    return train


def weights(record, name="adapter/adapter_model.safetensors"):
    return load_file(record.folder / name)


def same(first, second):
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def memory(record, **options):
    """The override that remembers examples of a run."""
    return "data.replay=[{" + ",".join([f"run:{record.folder}", *(f"{k}:{v}" for k, v in options.items())]) + "}]"


class TestReplay:
    def test_the_memory_is_balanced_nested_and_that_of_its_seed(self, old, module):
        found = [module(old, per_class=n) for n in (1, 2)] + [module(old, per_class=2, seed=1)]
        ids = [[example.id for example in data.facts.memories[0].examples] for data in found]
        assert set(ids[0]) < set(ids[1]) != set(ids[2])
        for size, data in zip((1, 2, 2), found, strict=True):
            assert Counter(example.label for example in data.facts.memories[0].examples) == dict.fromkeys(
                OLD.split(), size
            )
        train = found[1].splits["train"]
        assert [example.id for example in train.examples][-6:] == ids[1]
        assert all(name.startswith("replay0:train:") for name in ids[1])
        assert found[1].task.labels == sorted({*OLD.split(), *NEW.split()})  # of what is learnt, none being declared

    def test_an_epoch_has_it_as_often_as_said(self, old, module):
        once, thrice = (module(old, per_class=1, times=n) for n in (1, 3))
        assert thrice.splits["train"].rows == once.splits["train"].rows + 6
        assert len({example.id for example in thrice.splits["train"].examples}) == thrice.splits["train"].rows

    def test_full_replay_is_joint_training(self, old, run_tiny, data, tiny_texts):
        """The same examples in the same order, whatever their ids: the same bits."""
        labels = f"data.labels=[{','.join(dict.fromkeys([*OLD.split(), *NEW.split()]))}]"
        joint = Path(shutil.copytree(rows(tiny_texts, NEW), "joint"))
        more = (rows(tiny_texts, OLD) / "train.csv").read_text().partition("\n")[2]
        with (joint / "train.csv").open("a") as file:
            file.write(more)
        of_all = run_tiny(*SHORT, "data=csv", f"data.path={joint}", labels, "run_dir=of_all")
        of_memory = run_tiny(*SHORT, *data(NEW, OLD), memory(old, per_class="null"), "run_dir=of_memory")
        assert same(of_all, of_memory)
        assert of_memory.data["data"]["replay"] == [
            {"run": str(old.folder.absolute()), "examples": more.count("\n"), "labels": sorted(OLD.split())}
        ]
        assert of_memory.data["data"]["splits"]["train"]["rows"] == of_all.data["data"]["splits"]["train"]["rows"]

    def test_the_examples_are_part_of_the_identity_and_their_place_is_not(self, old, after):
        elsewhere = SimpleNamespace(folder=Path(shutil.copytree(old.folder, "elsewhere")))
        first, again = after("first", memory(old)), after("again", memory(elsewhere))
        other = after("other", memory(old, per_class=2))
        identities = [record.data["identity"]["sha256"] for record in (first, again, other)]
        assert identities[0] == identities[1] != identities[2]
        with pytest.raises(ConfigError, match=r"data\.replay\.0: the examples of .* are not those that this run began"):
            after("changed", memory(old, sha256="abc"))
        assert not Path("changed").exists()

    def test_of_a_run_on_listed_examples_only_these_are_remembered(self, run_tiny, data, module):
        """The labels of the others were hidden from it."""
        write_list(Path("list.json"), ["train:0", "train:2"], ["train:1"])
        of_list = ["budget.listed=list.json", "budget.train_examples=null"]
        declared = f"data.labels=[{','.join(OLD.split())}]"
        listed = run_tiny(*SHORT, *data(OLD), declared, *of_list, "run_dir=listed")
        (memory,) = module(listed, per_class="null").facts.memories
        assert [example.id for example in memory.examples] == ["replay0:train:0", "replay0:train:2"]

    def test_what_cannot_be_remembered(self, old, after, finished, run_tiny):
        with pytest.raises(ConfigError, match="an empty list remembers nothing"):
            after("a", "data.replay=[]")
        with pytest.raises(
            ConfigError, match=r"data\.replay\.0: .* is a run of task=ner, and this one is of classification"
        ):
            after("b", memory(finished))
        with pytest.raises(UserError, match=r"data\.replay\.0: 'nowhere' is no"):
            after("c", "data.replay=[{run:nowhere}]")
        place = load(old.folder).config["data"]["path"]
        with pytest.raises(ConfigError, match=r"data\.fold=null, and this run 1/2"):
            run_tiny(*SHORT, "data=csv", f"data.path={place}", memory(old), "data.fold=1/2")


@pytest.fixture
def module(after, compose_config, tiny_model, data):
    """Return the function that loads the new texts, without declared labels, with a memory of a run."""

    def load_(record, **options):
        overrides = ["model=folder", f"model.path={tiny_model}", "trainer=cpu", *SHORT, *data(NEW)]
        return prepare(compose_config(*overrides, memory(record, **options))).data

    return load_


class TestEwc:
    def test_it_keeps_the_weights_near(self, old, after):
        chosen = ["regularizer=[ewc]", f"regularizer.ewc.previous={old.folder}", "optimizer=sgd", "optimizer.lr=0.1"]
        ends = []
        for name, strength in {"free": 1e-6, "held": 50.0}.items():
            held = after(name, *chosen, f"regularizer.ewc.strength={strength}", "budget.max_steps=8")
            with (held.folder / "metrics.csv").open() as file:
                ends.append([float(row["train/ewc"]) / strength for row in csv.DictReader(file) if row["train/ewc"]])
        assert ends[0][0] == ends[1][0] == 0 < ends[1][-1] < ends[0][-1] / 2
        what_it_did = held.extensions["regularizers"]["ewc"]
        assert what_it_did["step"] == 3  # of the warm-up the first does nothing, and the second begins at these weights
        assert what_it_did["weights"] > 1000

    def test_the_runs_are_part_of_the_identity_and_their_place_is_not(self, old, after):
        elsewhere = Path(shutil.copytree(old.folder, "elsewhere"))
        chosen = ["regularizer=[ewc]", "budget.max_steps=2"]
        first = after("first", *chosen, f"regularizer.ewc.previous={old.folder}")
        again = after("again", *chosen, f"regularizer.ewc.previous=[{elsewhere}]")
        assert first.data["identity"] == again.data["identity"]
        settled = load(first.folder).config["regularizer"]["ewc"]
        assert settled["previous"] == [str(old.folder.absolute())]
        assert same(first, again)

    def test_without_its_adapter_one_is_warned(self, old, after, caplog):
        after("a", "regularizer=[ewc]", f"regularizer.ewc.previous={old.folder}", "budget.max_steps=1", adapter=False)
        assert "this run does not begin with the weights of" in caplog.text

    def test_a_run_of_another_method_has_no_weights_to_stay_near(self, old, after):
        with pytest.raises(ConfigError, match=r"regularizer\.ewc: .* train no weight of the same name and shape"):
            after("a", "peft=full", "regularizer=[ewc]", f"regularizer.ewc.previous={old.folder}", adapter=False)


def test_old_answers_are_kept(old, after):
    """By LwF on new examples, and by DER++ on remembered ones."""
    more = {"lwf": [f"regularizer.lwf.previous={old.folder}", "regularizer.lwf.alpha=50"], "der": [memory(old)]}
    for name, overrides in more.items():
        record = after(name, f"regularizer=[{name}]", *overrides)
        assert record.extensions["regularizers"][name]["term"] > 0
    with pytest.raises(ConfigError, match=r"regularizer\.lwf: .* has the label 'hire', and this run has not"):
        after("b", "regularizer=[lwf]", more["lwf"][0], "data.labels=[nothing,report,compare]", adapter=False)
    with pytest.raises(ConfigError, match=r"regularizer\.der: nothing is remembered"):
        after("c", "regularizer=[der]")


def test_logits_of_tokens_are_those_of_texts_as_this_run_cuts_them(finished, run_tiny):
    shorter = ["data.max_tokens=8", "regularizer=[der]", "budget.max_steps=2", f"adapter={finished.folder}/adapter"]
    record = run_tiny(*shorter, memory(finished, per_class=2), "run_dir=shorter")
    assert record.extensions["regularizers"]["der"]["term"] > 0


@pytest.mark.parametrize("method", ["o_lora", "inflora"])
def test_runs_go_on_from_each_other(method, after):
    chosen = [f"peft={method}", "peft.r=4"]
    first = after("first", *chosen, adapter=False)
    second = after("second", *chosen, f"peft.previous={first.folder}", adapter=False)
    elsewhere = shutil.copytree(first.folder, "elsewhere")
    again = after("again", *chosen, f"peft.previous={elsewhere}", adapter=False)
    assert again.data["identity"] == second.data["identity"]
    assert same(again, second)
    third = after("third", *chosen, f"peft.previous={second.folder}/adapter", adapter=False)
    with pytest.raises(ConfigError, match=r"adapter = .*: peft=.* goes on from peft\.previous"):
        after("both", *chosen, f"peft.previous={first.folder}")
    answers = load(third.folder).predict(["Ada moved"])
    shutil.rmtree(first.folder)
    shutil.rmtree(second.folder)
    assert load(third.folder).predict(["Ada moved"]) == answers
    with pytest.raises(UserError):
        after("fourth", *chosen, f"peft.previous={second.folder}", adapter=False)


@pytest.mark.parametrize("method", ["o_lora", "inflora"])
def test_a_killed_run_beside_frozen_updates_goes_on_to_the_same_bits(method, after, monkeypatch):
    chosen = [f"peft={method}", "peft.r=4", "trainer.checkpoint_every=1"]
    first = after("first", *chosen, adapter=False)
    chosen.append(f"peft.previous={first.folder}")
    whole = after("whole", *chosen, adapter=False)
    let_through = Interruption.on_train_batch_start

    def signalling(self, trainer, *rest):
        if trainer.global_step == 2:
            monkeypatch.setattr(Interruption, "on_train_batch_start", let_through)
            os.kill(os.getpid(), signal.SIGTERM)
        let_through(self, trainer, *rest)

    monkeypatch.setattr(Interruption, "on_train_batch_start", signalling)
    with pytest.raises(Interrupted):
        after("parts", *chosen, adapter=False)
    resumed = after("parts", *chosen, adapter=False)
    assert resumed.resumed_at == 2
    files = ["adapter_model.safetensors", *(["input_subspaces.safetensors"] if method == "inflora" else [])]
    for file in files:
        one, other = (weights(record, f"adapter/{file}") for record in (whole, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)
