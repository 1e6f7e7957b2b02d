"""Texts beside a table: out-of-fold scores, models that are compared on later rows, and decisions with reasons."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from tests.applications import write_applications

from peftlab.chains.chain import Chain
from peftlab.errors import ConfigError, DataError, UserError
from peftlab.runs.folder import read_predictions
from peftlab.scores.ordering import auc
from peftlab.tables import scorecard
from peftlab.tables.answering import decide
from peftlab.tables.applications import Named, read_applications
from peftlab.tables.fitting import Rows, fitted
from peftlab.tables.kept import Kept
from peftlab.tables.out_of_fold import log_odds, write_texts
from peftlab.tables.reasons import TEXT
from peftlab.tables.scorecard import build
from peftlab.tables.settings import Settings
from peftlab.use.finished import load


@pytest.fixture
def applications(tmp_path):
    return write_applications(tmp_path / "applications.csv")


@pytest.fixture
def overrides(tiny_run, applications):
    learning = ("peft=head", "budget.max_steps=3", "logger=[]", "callbacks=[]", "data.eval_batch_size=64")
    return (*tiny_run, "task=classification", "data=csv", f"data.path={applications}", *learning)


@pytest.mark.slow
def test_it_is_built_goes_on_and_decides(peftlab, overrides, applications, tmp_path):
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/mine.yaml").write_text("# @package _global_\nnotice: Made for a test.\n")
    asked = (
        "--config-dir",
        "conf",
        "+experiment=mine",
        "--time",
        "applied",
        "--positive",
        "bad",
        "--folds",
        "2",
        "--groups",
        "sex",
    )
    asked += ("data.source.licence=mine",)
    command = ("scorecard", *overrides, *asked, "--after-granting", "recovered", "--out", "card")
    code, out, err = peftlab(*command)
    assert (code, "AUC" in out) == (0, True), err
    card = tmp_path / "card"
    assert json.loads((card / "fold-1/record.json").read_text())["data"]["licence"] == "mine"
    found = json.loads((card / "scorecard.json").read_text())
    assert found["columns"] == {
        "numeric": ["amount"],
        "categorical": ["purpose"],
        "left_out": {"known only after granting": ["recovered"], "of groups": ["sex"]},
    }
    splits = found["splits"]
    assert sum(split["rows"] for split in splits.values()) == 300
    assert splits["train"]["to"] < splits["validation"]["from"] <= splits["validation"]["to"] < splits["test"]["from"]
    ids = [row["id"] for fold in (1, 2) for row in read_predictions(card / f"fold-{fold}/predictions/test.jsonl")]
    assert sorted(ids) == sorted(f"train:{number}" for number in range(splits["train"]["rows"]))
    assert {one["rate"] for one in found["gaps"]} == {"approval_rate", "equal_opportunity"}
    assert "Scorecard card" in (card / "report.html").read_text()
    files = [card / name for name in ("scorecard.json", "model.json", "report.html", "chain.json")]
    before = [file.read_bytes() for file in files]
    assert peftlab(*command)[0] == 0
    assert [file.read_bytes() for file in files] == before
    code, out, err = peftlab("scorecard", "card", "--predict", applications, "--json")
    assert code == 0, err
    assert "notice: Made for a test." in err
    decided = json.loads(out)
    assert len(decided) == 300
    assert all((one["decision"] == "approve") == (one["probability"] < 1 / 6) for one in decided)
    by_place = {one["place"]: one for one in decided}
    for one in found["riskiest"]:  # the same row, read again
        assert by_place[one["place"]]["probability"] == pytest.approx(one["probability"], rel=1e-4)
        assert [reason["column"] for reason in by_place[one["place"]]["reasons"]] == [
            r["column"] for r in one["reasons"]
        ]
    assert peftlab("scorecard", "card", "--predict", applications, "--folds", "3")[0] == 2
    code, _, err = peftlab(*command, "--allow", "mine")
    assert (code, "--allow acts with --predict" in err) == (2, True)
    code, _, err = peftlab(*command, "--test", "0.3")
    assert code == 2
    assert "was begun with other settings" in err
    (card / "model.json").write_text((card / "model.json").read_text().replace('"bias"', '"base"').replace("left", "l"))
    with pytest.raises(UserError, match="is damaged"):
        Kept.read(card)


@pytest.mark.slow
def test_what_cannot_be_says_so_before_any_run(overrides, applications, tmp_path):
    *others, last = applications.read_text().splitlines()
    date, _, *rest = last.split(",")
    Path("late.csv").write_text("\n".join([*others, ",".join([date, "much", *rest])]))
    for more, settings, error, message in (
        (("data.fold=1/2",), {}, ConfigError, "scores every row"),
        (("data.duplicates=drop",), {}, ConfigError, "leave it at keep"),
        (("budget.test=false",), {}, ConfigError, "leave it at true"),
        (("data.format.delimiter=tab",), {}, ConfigError, "acts on the text alone"),
        ((), {"columns": ("amout",)}, DataError, "Did you mean 'amount'"),
        ((), {"categorical": ("sex",), "groups": ("sex",)}, ConfigError, "not among the columns"),
        ((), {"time": "purpose"}, DataError, r"applications.csv:2: 'purpose' is .*ISO 8601"),
        ((), {"positive": "baad"}, ConfigError, "Did you mean 'bad'"),
        ((), {"test": 0.01}, DataError, "needs 10 rows of either outcome"),
        (("data.path=late.csv",), {}, DataError, r"late.csv:301: 'amount' is 'much'; expected a number"),
    ):
        with pytest.raises(error, match=message):
            build(tmp_path / "card", Settings((*overrides, *more), **{"time": "applied", **settings}))
        assert not (tmp_path / "card").exists()
    with pytest.raises(ConfigError, match="cannot help to grant"):
        Settings((), columns=("recovered",), after_granting=("recovered",))


@pytest.mark.exhaustive
def test_killed_between_any_two_runs_it_goes_on_to_the_same_bits(overrides, tmp_path, monkeypatch, caplog):
    settings = Settings(overrides, time="applied", positive="bad", folds=2)
    build(tmp_path / "whole", settings)
    assert "'recovered' alone has an AUC above" in caplog.text
    run = Chain.run
    for _ in range(3):

        def once(chain, name, config, done=[]):  # noqa: B006
            if done:
                raise KeyboardInterrupt
            if chain.stage(name) is None:
                done.append(name)
            return run(chain, name, config)

        monkeypatch.setattr(Chain, "run", once)
        try:
            build(tmp_path / "killed", settings)
        except KeyboardInterrupt:
            assert not (tmp_path / "killed/model.json").exists()
    monkeypatch.setattr(Chain, "run", run)
    build(tmp_path / "killed", settings)
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    assert (whole / "scorecard.json").read_bytes() == (killed / "scorecard.json").read_bytes()
    models = [json.loads((folder / "model.json").read_text()) for folder in (whole, killed)]
    assert [model | {"run": None} for model in models] == [models[0] | {"run": None}] * 2


@pytest.mark.exhaustive
def test_scores_of_texts_that_were_learnt_leak_and_scores_out_of_fold_do_not(overrides, tmp_path):
    """A text that tells nothing: who learns from what its model says of its own training rows trusts it anyway."""
    table = write_applications(tmp_path / "null.csv", count=300, signal=0.0)
    learning = ("peft=full", "optimizer.lr=3e-3", "budget.max_steps=300", "budget.select=last", "data.batch_size=16")
    card = tmp_path / "card"
    seen = {}
    inner = scorecard.fitted

    def spied(splits, *arguments):
        seen.update(splits=splits, arguments=arguments)
        return inner(splits, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorecard, "fitted", spied)
        overridden = (*overrides, f"data.path={table}", *learning)
        build(card, Settings(overridden, time="applied", positive="bad", folds=2, validation=0.1, test=0.5))
    splits, train = seen["splits"], seen["splits"]["train"]
    out_of_fold = np.array([row[TEXT] for row in train.cells])
    run = load(card / "all")
    answers = run.predict([row["text"] for row in train.cells])
    in_fold = np.array([log_odds(answer["probabilities"]["bad"]) for answer in answers])
    assert auc(in_fold, train.y) > 0.75
    assert auc(out_of_fold, train.y) < 0.6
    cells = [{**row, TEXT: score} for row, score in zip(train.cells, in_fold.tolist(), strict=True)]
    calibration = seen["arguments"][-1]
    leaked = fitted({**splits, "train": Rows(cells, train.places, train.y)}, ["amount"], [], calibration)
    honest = fitted(splits, ["amount"], [], calibration)
    test = splits["test"]
    of_test = {
        name: auc(models[reads][0].margins(test), test.y)
        for name, models, reads in (
            ("leaked", leaked, "columns + text"),
            ("honest", honest, "columns + text"),
            ("columns", honest, "columns"),
        )
    }
    seen = {
        name: auc(models["columns + text"][0].margins(Rows(rows, train.places, train.y)), train.y)
        for name, models, rows in (("leaked", leaked, cells), ("honest", honest, train.cells))
    }
    assert seen["leaked"] > seen["honest"] + 0.05  # what looks like a gain
    assert of_test["leaked"] < of_test["columns"] - 0.03  # and is a loss
    assert abs(of_test["honest"] - of_test["columns"]) < 0.03


def test_another_run_in_the_place_of_the_text_model_is_refused(overrides, applications, tmp_path):
    card = tmp_path / "card"
    card.mkdir()
    with pytest.raises(UserError, match=r"has no model\.json"):
        next(decide(card, applications))


def test_objects_lack_what_is_missing_and_labels_are_numbers(tmp_path, caplog):
    """A file of JSON lines, as pandas writes it."""
    file = tmp_path / "rows.jsonl"
    rows = [
        {
            "text": f"text {n}",
            "label": float(n % 2),
            "word": ("1", "1.0")[n % 2],
            "id": f"x{n}",
            **({"late": n} if n else {}),
        }
        for n in range(60)
    ]
    rows[7]["late"] = "soon"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    table = read_applications(file, Named("text", "label", None, None))
    assert table.columns == ["word", "id", "late"]
    assert (table.rows[0]["late"], scorecard._positive(table, None)) == (None, "1")
    split = np.array(["train"] * 40 + ["test"] * 20)
    with caplog.at_level(logging.WARNING, "peftlab"):
        assert scorecard._kinds(table, table.columns, split, ["word"]) == ([], ["word", "id", "late"])
    assert "'late' is read as categories, for 1 of its 40 training rows hold no number, such as" in caplog.text
    assert "rows.jsonl:8" in caplog.text
    assert "'id' tells the models nothing" in caplog.text
    assert "'word' has the categories 1 and 1.0, which are one number and count as 2" in caplog.text
    write_texts(tmp_path / "data", table, split)
    first = json.loads((tmp_path / "data/train.jsonl").read_text().splitlines()[1])
    assert first == {"text": "text 1", "label": "1"}
