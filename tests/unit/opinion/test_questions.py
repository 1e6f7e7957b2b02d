"""What a run answers, and how it errs, from what it has kept."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from peftlab.errors import ConfigError
from peftlab.opinion.correction import Confusion
from peftlab.opinion.questions import Question, of_run, unknown_share
from peftlab.opinion.series import asked, of_cell, series_of, values_of
from peftlab.opinion.windows import Window


def kept(folder, *rows):
    (folder / "predictions").mkdir(exist_ok=True)
    (folder / "predictions" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_errors_of_a_run(tmp_path):
    named = {"b": 0.4, "a": 0.6}
    rows = [
        {"input": "Good Day", "gold": "a", "predicted": "a", "probabilities": named},
        {"input": "bad day", "gold": "b", "predicted": "a", "probabilities": named},
        {"input": "none", "gold": None, "predicted": "a", "probabilities": named},
    ]
    kept(tmp_path, *rows)
    question = of_run(tmp_path, "opinion", "test")
    assert question.labels == ["b", "a"]
    assert question.confusion.counts.tolist() == [[0, 1], [0, 1]]
    assert question.number("c") == -1
    assert unknown_share("A good NIGHT, 7 https", question.words) == pytest.approx(3 / 4)
    kept(tmp_path, {"input": "今天天气很好", "gold": "a", "predicted": "a", "probabilities": named})
    assert unknown_share("天气不好", of_run(tmp_path, "opinion", "test").words) == pytest.approx(1 / 4)
    few = [{"gold": gold, "predicted": gold, "probabilities": {gold: 0.9}} for gold in "bca"]  # of task.top_k=1
    kept(tmp_path, *few)
    assert of_run(tmp_path, "opinion", "test").confusion.labels == ("a", "b", "c")
    for odd in ({"gold": ["a"], "predicted": ["a"]}, {"gold": 1.0, "predicted": 0.9}, {"input": "x"}):
        kept(tmp_path, odd)
        with pytest.raises(ConfigError, match="exactly one label"):
            of_run(tmp_path, "opinion", "test")
    with pytest.raises(ConfigError, match=r"validation\.jsonl: cannot be read"):
        of_run(tmp_path, "opinion", "validation")


def test_kinds_of_series():
    names = ["topic", "opinion", "region"]
    assert [kind.questions for kind in asked(None, names, 2)] == [(0,), (1,), (2,), (1, 0), (1, 2)]
    assert [kind.questions for kind in asked(["opinion in region"], names, 2)] == [(1, 2)]
    for wrong, said in (("opinon", "Did you mean 'opinion'"), ("topic in topic", "within another")):
        with pytest.raises(ConfigError, match=said):
            asked([wrong], names, 2)


def test_labels_may_have_any_words():
    questions = [Question("opinion", ["not in stock", "a=b"]), Question("place", ["made in Rome"])]
    window = Window(cells=Counter({(0, 0): 1, (1, 0): 1}))
    series = series_of(asked(None, ["opinion", "place"], 1), questions, [window], 20)
    found = {one.name: (one.group, one.short) for one in series}
    assert found["opinion=not in stock"] == ("opinion", "opinion=not in stock")
    within = "opinion in place=made in Rome"
    assert found["opinion=not in stock in place=made in Rome"] == (within, "opinion=not in stock")
    assert found["opinion=a=b in place=made in Rome"] == (within, "opinion=a=b")
    assert [of_cell(one.name, one.cell, questions) for one in series] == series


def test_shares_within_others_are_corrected():
    confusion = Confusion(("no", "yes"), np.array([[90.0, 10], [20, 80]]))
    questions = [Question("opinion", ["no", "yes"], confusion), Question("region", ["north", "south"])]
    window = Window(
        Counter({(0, 0): 55, (1, 0): 45, (0, 1): 30, (1, 1): 10}), {"unknown words": [140, 28_000_000, 14_000_000]}
    )
    series = series_of(asked(None, ["opinion", "region"], 1), questions, [window], 20)
    values = values_of(series, questions, [window], True)
    by_name = {one.name: n for n, one in enumerate(series)}
    assert values.x[0, by_name["opinion=yes in region=north"]] == pytest.approx((0.45 - 0.1) / 0.7)
    assert values.x[0, by_name["opinion=yes"]] == pytest.approx((55 / 140 - 0.1) / 0.7)
    assert values.x[0, by_name["region=south"]] == pytest.approx(40 / 140)
    assert values.x[0, by_name["unknown words"]] == pytest.approx(0.2)
    assert values.u[0, by_name["unknown words"]] == pytest.approx(0.1 - 0.04)
    assert values.u[0, by_name["opinion=yes"]] == pytest.approx(85 * 55 / 140**2 / 0.7**2)
    assert values.n[0, by_name["opinion=yes in region=south"]] == 40
