"""``peftlab continue``: new data for a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peftlab.cli import main
from peftlab.continual.continuing import (
    _forget_old_examples,
    _warn_of_learnt_tests,
    _warn_of_old_weights,
    _with_values,
    continue_run,
    continued,
)
from peftlab.errors import ConfigError, DataError, UserError
from peftlab.python_api import run as train
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use.finished import load

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(tiny_run, tiny_texts):
    subset = "data.subset={labels: [hire,move,report]}"
    overrides = ["task=classification", "data=csv", f"data.path={tiny_texts}", "logger=[]", "peft.r=2", subset]
    return train(*tiny_run, *overrides, "budget.max_steps=2", "callbacks=[]").folder


def test_new_data_with_new_labels_is_learnt_from_where_the_run_ended(finished, tiny_texts, capsys):
    changes = ["budget.max_steps=1", "data.source.licence=mine"]
    main(["continue", str(finished), "--data", str(tiny_texts), "--method", "none", "--json", *changes])
    document = json.loads(capsys.readouterr().out)
    record = RunRecord.load(document["run"])
    assert record.data["status"] == "completed"
    assert record.data["data"]["labels"] == ["hire", "move", "report", "compare", "nothing"]
    assert record.data["data"]["licence"] == "mine"
    assert document["new_labels"] == ["compare", "nothing"]
    config = RunFolder(record).read_config()
    assert config["adapter"]["path"] == str(finished.absolute() / "adapter")
    assert (config["budget"]["max_steps"], config["data"]["subset"]) == (1, None)
    assert document["old"]["before"] == RunRecord.load(finished).score("test", document["metric"])
    assert document["old"]["low"] <= document["old"]["after"] - document["old"]["before"] <= document["old"]["high"]
    assert document["new"]["before"] is None
    assert document["new"]["after"] == record.score("test", document["metric"])
    assert load(document["run"]).predict(["Anna moved to Rome"])[0]["predicted"] in record.data["data"]["labels"]


def test_what_keeps_the_old_follows_from_the_method(finished, tiny_texts, monkeypatch, caplog):
    run = load(finished)
    ewc, _ = continued(run, tiny_texts, "ewc", 5, ["regularizer.ewc.strength=10"])
    assert ewc["regularizer"]["ewc"]["strength"] == 10
    assert ewc["regularizer"]["ewc"]["previous"] == [str(finished.absolute())]
    whole, _ = continued(run, tiny_texts, "replay", None)
    assert whole["data"]["replay"] == [{"run": str(finished.absolute()), "per_class": None}]
    der = {"_target_": "peftlab.regularizers.der.Der", "sha256": ["of another memory"]}
    monkeypatch.setitem(run.config, "regularizer", {"der": der})
    more, _ = continued(run, tiny_texts, "replay", 5)
    assert more["regularizer"]["der"]["sha256"] == []
    none, _ = continued(run, tiny_texts, "none", 5)
    assert none["regularizer"] == {}
    assert "regularizer.der is left out" in caplog.text
    _warn_of_learnt_tests(run, none)
    assert "texts of the old test split are in the new training data" in caplog.text


def test_groups_of_new_examples_may_be_others(tiny_run, tiny_texts, tmp_path):
    terms = tmp_path / "terms.txt"
    terms.write_text("one | two\nAnna | Paris\n")
    overrides = ["task=classification", "data=csv", f"data.path={tiny_texts}", "logger=[]", "callbacks=[]", "peft.r=2"]
    reweighted = ["regularizer=[reweight]", f"regularizer.reweight.terms={terms}", "budget.max_steps=2"]
    run = load(train(*tiny_run, *overrides, *reweighted).folder)
    new = Path(shutil.copytree(tiny_texts, tmp_path / "new"))
    rows = (new / "train.csv").read_text().splitlines()
    (new / "train.csv").write_text("\n".join(rows[:30]) + "\n")
    after = continue_run(run, new, "none").run
    digests = [one.config["regularizer"]["reweight"]["sha256"] for one in (run, after)]
    assert None not in digests
    assert digests[0] != digests[1]


def test_synonyms_of_new_texts_may_be_others():
    node = {"_target_": "peftlab.data.augmentation.synonym.Synonym", "sha256": "of old words"}
    terms = {"_target_": "peftlab.data.augmentation.counterfactual.Counterfactual", "sha256": "of a file"}
    config = {"regularizer": {}, "augment": {"synonym": {**node}, "counterfactual": terms}}
    config["semi"] = {"weak": {}, "strong": {"synonym": {**node}}}
    _forget_old_examples(config)
    assert config["augment"] == {"synonym": node | {"sha256": None}, "counterfactual": terms | {"sha256": "of a file"}}
    assert config["semi"]["strong"]["synonym"]["sha256"] is None
    _forget_old_examples(config | {"semi": None})
    with pytest.raises(ConfigError, match=r"augment\.mine\._target_: 'os\.system' may not be named here"):
        _forget_old_examples(config | {"augment": {"mine": {"_target_": "os.system"}}})


def test_weights_of_labels_that_were_counted_may_be_counted_anew(caplog):
    old = {"task": {"class_weights": {"hire": 0.5, "move": 2.0}, "top_k": None}}
    _warn_of_old_weights(old)
    assert "To count the new examples, set task.class_weights=balanced" in caplog.text
    caplog.clear()
    new = _with_values(old, ["task.class_weights=balanced"])
    assert new["task"]["class_weights"] == "balanced"
    _warn_of_old_weights(new)
    assert not caplog.text


def test_what_cannot_be_continued_says_so(finished, tiny_texts, tmp_path):
    run = load(finished)
    with pytest.raises(DataError, match="no such file or folder"):
        continue_run(run, tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"Did you mean 'optimizer.lr'"):
        continued(run, tiny_texts, "none", 5, ["optimizer.lrr=1"])
    with pytest.raises(ConfigError, match=r"data\.labels=.*: follows from the run, the new data"):
        continued(run, tiny_texts, "none", 5, ["data.labels=[a,b]"])
    with pytest.raises(ConfigError, match="no such single value"):
        continued(run, tiny_texts, "none", 5, ["peft=full"])
    run.record.extend("derived", {"by": "ensemble", "how": {}, "parents": []})
    with pytest.raises(UserError, match="continue"):
        continued(run, tiny_texts, "none", 5)
