"""Slices of finished runs: each with its rest is the whole, a planted one is found, and runs are compared on it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.unit.report.sweeps import planned, run_folders

from peftlab import cli
from peftlab.errors import UserError
from peftlab.report.statistics.measured import score_of
from peftlab.report.study import Run
from peftlab.runs.folder import SLICES, RunFolder
from peftlab.runs.record import RunRecord
from peftlab.scores.numbers import NumberScores
from peftlab.use.slices.measure import Interval, Settings, _compared, _divided, _found, slicers, slices
from peftlab.use.slices.subject import Subject, Training

NER = Settings(("abbreviation", "negation", "length", "document"))


def subject_of(folder):
    run = Run(RunRecord.load(folder), "")
    return Subject(RunFolder(run.record), run.answers(), run.scorer)


@pytest.fixture
def folders(tmp_path):
    """Two runs of named entities: the first misses half of the negated ones, and spurious ones stand elsewhere."""
    sweep = planned("ner", methods=("full", "lora"), seeds=(0,), examples=240, groups=0)
    for run in sweep.runs:
        draw, answers = random.Random(run.method), []
        for number, example in enumerate(sweep.gold["test"]):
            denied = number % 2 == 0
            words = ["No" if denied else "Some", ("fever", "HSF", "night sweats")[number % 3], "today", "."]
            gold = ["O", "B-LOC" if number % 3 else "B-PER", "O", "O"]
            missed = draw.random() < (0.5 if denied and run.method == "full" else 0.1)
            predicted = ["O", "O" if missed else gold[1], "B-LOC" if draw.random() < 0.1 else "O", "O"]
            answers.append({**example, "input": words, "gold": gold, "predicted": predicted,
                            "probability": [0.9] * 4, "group": f"d{number // 6}"})  # fmt: skip
        run.answers["test"] = answers
        run.gold = answers
    return run_folders(sweep.write(tmp_path / "sweep"))


def test_a_slice_and_its_rest_are_the_whole(folders):
    subject = subject_of(folders[0])
    subject.__dict__["training"] = Training({}, {"fever": frozenset({"PER"}), "hsf": frozenset({"PER"})}, frozenset())
    parts, left_out = _divided(subject, ("abbreviation", "negation", "length", "document", "seen"))
    assert not left_out
    assert {slicer for slicer, _ in parts} == {"abbreviation", "negation", "length", "document", "seen"}
    gold = sum(one.gold is not None for one in subject.mentions)
    for _, one in parts:
        assert (one.counts >= 0).all()
        assert (subject.counts - one.counts >= 0).all()
        if one.unit == "entities":  # recall is of the gold entities of the slice
            assert subject.scorer.of_classes(one.counts.sum(axis=0))[2].sum() == one.size <= gold
    seen = [one.counts for slicer, one in parts if slicer == "seen"]
    assert np.array_equal(sum(seen), subject.counts)  # these exclude each other


def test_a_planted_slice_is_found_and_kept(folders):
    result = slices(folders[:1], NER)
    by_name = {one.name: one for one in result.found}
    denied, others = by_name["negated"], by_name["up to 4 words"]
    assert denied.says == "differs"
    assert denied.difference.high < 0
    assert denied.score.low <= denied.score.value <= denied.score.high
    assert denied.rest == pytest.approx(denied.score.value - denied.difference.value)
    assert (others.rest, others.says) == (None, "not tested")  # it is the whole split
    assert others.score.value == pytest.approx(result.whole["entity_f1"])
    assert (result.units, result.clusters) == ("groups", 40)
    assert Run(RunRecord.load(folders[0]), "").beside(SLICES) == [json.loads(json.dumps(result.document()))]


def test_runs_are_compared_slice_by_slice(folders):
    result = slices(folders, Settings(("negation",)))
    (denied,) = [one for one in result.compared if one.name == "negated"]
    assert denied.says == "differs"
    assert denied.difference.low > 0
    assert "beside a negation: 0" not in result.small


def test_small_slices_are_listed(folders):
    result = slices(folders[:1], Settings(("negation", "length"), min_slice=121))
    assert result.small["negation: negated"] == 120
    assert "negated" not in {one.name for one in result.found}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(("negations",)), "no such slicer. Did you mean 'negation'"),
        (Settings(("column",)), "Allowed: .*column:NAME"),
        (Settings(("question",)), "no slicer suits the run. question: fewer than half"),
        (Settings(metric="accuracy"), "no such score.* entity_f1"),
    ],
)
def test_what_cannot_be_sliced(folders, settings, message):
    with pytest.raises(UserError, match=message):
        slices(folders[:1], settings)


def test_other_examples_are_no_comparison(folders, tmp_path):
    other = run_folders(planned("ner", methods=("ia3",), seeds=(0,), examples=30).write(tmp_path / "other"))
    with pytest.raises(UserError, match="not scored on the same examples"):
        slices([folders[0], other[0]], NER)


def test_texts_and_their_command(tmp_path, capsys):
    sweep = planned("classification", methods=("full",), seeds=(0,), examples=90, groups=0)
    said = ("It is not bad", "The WHO asked us", "How many came?")
    sweep.runs[0].answers["test"] = [
        {**answer, "input": said[number % 3], "predicted": answer["gold"], "probability": 0.9}
        for number, answer in enumerate(sweep.gold["test"])
    ]
    folder = run_folders(sweep.write(tmp_path / "sweep"))[0]
    cli.main(["slices", str(folder), "--by", "abbreviation, negation,question,length", "--min-slice", "30"])
    out = capsys.readouterr().out
    assert "short form, undefined" in out
    assert "left out: question: fewer than half" in out
    assert "too small: length" not in out


def test_a_score_without_a_value_differs_from_none():
    """The correlation with numbers that are all equal."""
    draw = random.Random(0)
    answers = [
        {"id": f"test:{n}", "input": "a", "gold": 1.0 if n % 2 else draw.gauss(0, 1), "predicted": draw.gauss(0, 1)}
        for n in range(80)
    ]
    subject = Subject(SimpleNamespace(), answers, NumberScores())
    flat = subject.of_examples("flat", [bool(n % 2) for n in range(80)])
    found = _found("x", flat, subject, np.arange(80), "pearson", Settings(), 1)
    assert (found.score, found.p, found.says) == (Interval(None, None, None), None, "not tested")
    score = score_of(subject.scorer, "pearson")
    subject.__dict__["texts"] = [["It is not"] if n % 2 else ["It is"] for n in range(80)]
    again = Subject(SimpleNamespace(), answers, subject.scorer, subject)
    again.__dict__["texts"] = subject.texts
    flat = replace(flat, name="negation")
    (one,) = _compared([("negation", flat)], [again], ["b"], np.arange(80), score, Settings(("negation",)))
    assert (one.difference.value, one.p, one.says) == (None, None, "not tested")


def test_every_slicer_is_in_the_document():
    from pathlib import Path

    text = Path(__file__).parents[4].joinpath("docs/slices.md").read_text(encoding="utf-8")
    assert all(f"| `{name}" in text for name in slicers())
