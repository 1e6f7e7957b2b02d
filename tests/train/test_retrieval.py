"""Runs that recommend: with texts and with histories, and what is done with them afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import peftlab
from peftlab.cli import main
from peftlab.errors import ConfigError, DataError
from peftlab.runs.record import RunRecord
from peftlab.use.check import check
from peftlab.use.examples import data_of

DATA = ["data=interactions", "data.format.cold_items=2", "data.eval_batch_size=8", "data.max_tokens=40"]


OPTIONS = ["task.size=16", "task.user_dropout=0", "task.id_dropout=0.1", "optimizer.lr=3e-2", "budget.max_steps=120"]


@pytest.fixture
def train(run_tiny, tiny_interactions):
    def make(*overrides):
        return run_tiny("task=retrieval", *DATA, f"data.path={tiny_interactions}", "run_dir=run", *overrides)

    return make


@pytest.mark.slow
def test_towers_over_histories_learn_what_follows(train, capsys, tmp_path):
    record = train("task.user=history", "peft=head", *OPTIONS)
    assert record.score("test", "mrr") > 0.4  # by chance 0.22
    assert record.score("test", "cold_hit@10") is not None
    run = peftlab.load("run")
    assert run.evaluate().equal
    assert check(run.folder).causes == []
    (answer,) = run.predict([{"history": ["i3", "i4"]}])
    assert len(answer["items"]) == 10
    assert not {"i3", "i4"} & {*answer["items"]}

    capsys.readouterr()
    main(["recommend", "run", "--evaluate", "--json"])
    found = json.loads(capsys.readouterr().out)
    baselines = ["popularity", "item_knn", "recent_knn", "tf_idf", "ease"]
    assert [each["system"] for each in found["systems"]] == ["this run", *baselines]
    own, *others = found["systems"]
    for name in ("hit@10", "cold_mrr"):
        assert own["scores"][name]["value"] == pytest.approx(record.score("test", name))
        for each in others:
            ahead = each["ahead"][name]
            assert ahead["value"] == pytest.approx(own["scores"][name]["value"] - each["scores"][name]["value"])
            assert ahead["low"] is None or ahead["low"] <= ahead["value"] <= ahead["high"]  # None: all users are equal
    main(["recommend", "run", "--evaluate", "--against", "popularity"])
    assert "the run is ahead by" in capsys.readouterr().out

    Path("mine.csv").write_text("item\ni3\ni4\n")
    main(["recommend", "run", "--history", "mine.csv", "--json"])
    assert [one["item"] for one in json.loads(capsys.readouterr().out)] == answer["items"]
    main(["recommend", "run", "--user", "u3", "--top", "4"])
    assert "moved to" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_with_texts_has_the_index_of_its_best_checkpoint(train):
    train("peft=lora", "task.negatives=4", "trainer.accumulate=2", "budget.max_steps=6", "data.batch_size=8")
    run = peftlab.load("run")
    assert run.evaluate().equal
    assert check(run.folder).causes == []
    data = data_of(run)
    index = next(p for name, p in run.model.named_parameters() if "index" in name and name.endswith("default.weight"))
    with torch.no_grad():
        torch.testing.assert_close(index * data.task.temperature, data.task._embedded(run.model), atol=1e-5, rtol=0)
    (answer,) = run.predict(["maria moved to paris"])
    assert len(answer["items"]) == 10
    assert answer["scores"] == sorted(answer["scores"], reverse=True)


@pytest.mark.slow
def test_without_training_the_pretrained_encoder_ranks(train):
    record = train("peft=lora", "budget.max_steps=0")
    assert record.data["cost"]["steps"] == 0
    assert peftlab.load("run").evaluate().equal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.user=history", "peft=lora"], "read no text, and .* would not be trained"),
        (["peft=head"], "trains the head alone"),
        (["task.user=history", "peft=head", "regularizer=fgm"], "names no input embeddings"),
        (["augment=[typo]"], "does not say which words of an example may change"),
    ],
)
def test_what_cannot_act_is_refused(train, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train(*overrides)


@pytest.mark.slow
def test_a_run_without_a_test_is_not_compared_and_reads_no_words_that_could_be_changed(train, capsys):
    train("task.user=history", "peft=head", "budget.max_steps=1", "budget.test=false")
    for command, message in {
        "recommend run --evaluate": "has kept no test rankings",
        "robustness run --split validation --perturb pgd": "has no input embeddings",
    }.items():
        with pytest.raises(SystemExit):
            main(command.split())
        assert message in capsys.readouterr().err
    main(["recommend", "run", "--user", "u3"])


@pytest.mark.slow
def test_an_adapter_is_of_the_same_items(train, tiny_interactions):
    few = ["task.user=history", "peft=head", "task.size=16", "budget.max_steps=2"]
    train(*few)
    on = train(*few[:-1], "budget.max_steps=0", "adapter=run/adapter", "run_dir=on")
    assert on.score("test", "mrr") == RunRecord.load("run").score("test", "mrr")
    shutil.copytree(tiny_interactions, "others")
    items = Path("others", "items.csv")
    head, *rows = items.read_text().splitlines()
    items.write_text("\n".join([head, *rows[::-1]]) + "\n")
    with pytest.raises(ConfigError, match=r"towers stand for its data\.labels, and the adapter's for others"):
        train(*few, "adapter=run/adapter", "data.path=others", "run_dir=other")


@pytest.mark.slow
def test_what_is_learnt_of_all_examples_is_not_private(train):
    with pytest.raises(ConfigError, match=r"task.user=history reads training examples, without noise"):
        train("task.user=history", "peft=head", "privacy=dp", "privacy.unit=group")
    with pytest.raises(ConfigError, match=r"fits its head to the training examples, without noise"):
        train("peft=lora", "privacy=dp")
    with pytest.raises(ConfigError, match=r"task.user=history: it would need the examples of all clients"):
        train("task.user=history", "peft=head", "federated=fedavg")


def test_a_fold_of_interactions_is_refused(train):
    with pytest.raises(DataError, match="in the histories of later ones"):
        train("peft=lora", "data.fold=1/3")


@pytest.mark.slow
def test_a_run_of_another_task_does_not_recommend(run_tiny, capsys):
    run_tiny("budget.max_steps=1", "run_dir=run")
    with pytest.raises(SystemExit):
        main(["recommend", "run", "--evaluate"])
    assert "only task=retrieval ranks all items" in capsys.readouterr().err
