"""What perturbations cost: intervals and tests are over the units of the data; of behaviour alone there are none."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.commands.robustness import _print
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.numbers import NumberScores
from peftlab.scores.paired import mcnemar
from peftlab.use.robustness import measure
from peftlab.use.robustness.perturbations import Perturbed
from peftlab.use.robustness.victim import Judged

EXAMPLES = 80


def judged(right):
    gold = [{"id": f"test:{n}", "gold": "a", "predicted": "a" if one else "b"} for n, one in enumerate(right)]
    return [Judged(answer, 0.0, one) for answer, one in zip(gold, right, strict=True)]


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Measure what it costs that the examples in `wrong` are answered wrongly, of documents of `size` examples."""

    def run_with(wrong=(), size=None, perturb=("typo",), behaviour=None, answers=None, scorer=None, metric="accuracy"):
        examples = [
            SimpleNamespace(id=f"test:{n}", group=None if size is None else f"doc{n // size}") for n in range(EXAMPLES)
        ]
        clean, after = answers or (judged([True] * EXAMPLES), judged([n not in wrong for n in range(EXAMPLES)]))
        typo = SimpleNamespace(adversarial=False, perturbed=lambda victim, examples: Perturbed(after, len(wrong), {}))
        task = SimpleNamespace(
            name="classification",
            processor="tokenizer",
            scorer=scorer or ClassScores(["a", "b"]),
            gold=lambda example: "a",
            selection=SimpleNamespace(metric=metric),
        )
        victim = SimpleNamespace(judged=lambda examples: clean)
        monkeypatch.setattr(measure, "Victim", lambda predictor: victim)
        monkeypatch.setattr(measure, "examples_of", lambda run, split: examples)
        monkeypatch.setattr(measure, "chosen", lambda names, *of: ({"typo": typo} if names else {}, {}))
        monkeypatch.setattr(measure, "_behaviour", lambda run, file, names: [])
        (tmp_path / "record.json").write_text("{}")
        run = SimpleNamespace(
            spec=SimpleNamespace(task=task),
            predictor=SimpleNamespace(task=task),
            folder=SimpleNamespace(path=tmp_path),
        )
        return measure.robustness(run, list(perturb), behaviour=behaviour)

    return run_with


def test_examples_that_stand_alone_flip_alone(measured):
    found = measured(wrong=range(10))
    (one,) = found.outcomes
    assert (found.units, one.broken, one.mended) == ("examples", 10, 0)
    assert one.p == mcnemar(10, 0)
    assert one.drop.value == pytest.approx(0.125)
    assert 0 < one.drop.low < 0.125 < one.drop.high < 0.25


def test_one_document_that_flips_as_a_whole_is_one_flip(measured):
    alone, together = measured(wrong=range(10)), measured(wrong=range(10), size=10)
    assert together.units == "groups"
    assert together.clean == alone.clean
    (alone,), (together,) = alone.outcomes, together.outcomes
    assert together.drop.value == alone.drop.value
    assert alone.p < 0.01 < 0.9 < together.p
    assert alone.drop.low > 0 == together.drop.low
    assert together.drop.high > alone.drop.high


def test_numbers_that_get_worse_are_not_called_the_same(measured):
    """None is quite right before or after, so that none flips, and McNemar's test would always say 1."""
    drawn = np.random.default_rng(0).normal(size=(EXAMPLES, 3))
    answers = [
        [Judged({"id": "a", "gold": gold, "predicted": gold + noise}, 0.0, False) for gold, noise in pairs]
        for pairs in (zip(drawn[:, 0], drawn[:, 1] / 10, strict=True), zip(drawn[:, 0], drawn[:, 2], strict=True))
    ]
    (one,) = measured(answers=answers, scorer=NumberScores(), metric="rmse").outcomes
    assert (one.broken, one.mended) == (0, 0)
    assert one.drop.low > 0
    assert one.p < 0.001


def test_a_single_document_has_no_interval(measured, capsys):
    found = measured(wrong=range(10), size=EXAMPLES)
    (one,) = found.outcomes
    assert (one.drop.low, one.drop.high) == (None, None)
    assert np.isclose(one.p, 1)
    _print(found)
    assert "80 test examples (accuracy), drawn by group" in capsys.readouterr().out.replace(found.scorer, "accuracy")


def test_behaviour_alone_has_no_clean_scores(measured, tmp_path):
    assert measured(perturb=(), behaviour="suite.jsonl").clean == {}
    (kept,) = json.loads((tmp_path / "robustness.json").read_text())
    assert (kept["clean"], kept["outcomes"], kept["units"]) == ({}, [], "examples")
