"""Two single models on the same test examples: a difference with its interval, and tests that fit, or why not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.report.sweeps import Sweep, edited_record, planned, run_folders

from peftlab.report.study import Run
from peftlab.report.two_models import paired_models
from peftlab.runs.record import RunRecord
from peftlab.scores.numbers import NumberScores
from peftlab.scores.paired import mcnemar


def written(sweep: Sweep, folder: Path) -> list[Run]:
    return [Run(RunRecord.load(one), str(one)) for one in run_folders(sweep.write(folder))]


def right(run: Run) -> list[bool]:
    return [answer["predicted"] == answer["gold"] for answer in run.answers()]


def test_flips_score_and_tests_of_a_worse_model(tmp_path):
    sweep = planned("classification", methods=("full", "head"), seeds=(0,), examples=120, groups=0)
    sweep.runs[0].error_rate, sweep.runs[1].error_rate = 0.05, 0.5
    good, bad = written(sweep, tmp_path / "sweep")
    found = paired_models(good, bad)
    was, now = right(good), right(bad)
    assert found.lost == sum(a and not b for a, b in zip(was, now, strict=True))
    assert found.won == sum(b and not a for a, b in zip(was, now, strict=True))
    assert found.difference.value == pytest.approx(bad.score() - good.score())
    assert found.difference.low < found.difference.value < found.difference.high < 0
    randomised, flips = found.tests
    assert randomised.p < 0.01
    assert flips.p == mcnemar(found.lost, found.won)
    mirrored = paired_models(bad, good)
    assert (mirrored.lost, mirrored.won) == (found.won, found.lost)
    assert mirrored.difference.value == pytest.approx(-found.difference.value)


def test_documents_are_drawn_whole_and_their_flips_are_not_taken_for_independent(tmp_path):
    one, other = written(planned("ner", seeds=(0,), examples=60, groups=12), tmp_path / "sweep")
    found = paired_models(one, other)
    assert (found.units, found.difference.clusters) == ("groups", 12)
    assert [test.name for test in found.tests] == ["approximate randomisation over clusters"]


def test_a_model_beside_itself_does_not_differ(tmp_path):
    one, _ = written(planned("ner", seeds=(0,)), tmp_path / "sweep")
    found = paired_models(one, one)
    assert (found.lost, found.won, found.difference.value) == (0, 0, 0)
    assert found.tests[0].p == 1


@pytest.mark.slow
def test_what_cannot_be_compared_says_why(tmp_path):
    one, other = written(planned("ner", seeds=(0,)), tmp_path / "ner")
    topic, _ = written(planned("classification", seeds=(0,)), tmp_path / "topics")
    with pytest.raises(ValueError, match="selected by different scores: entity_f1 and"):
        paired_models(one, topic)
    elsewhere, _ = written(planned("ner", seeds=(0,), draw=1), tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="test examples, or the gold answers of these, differ"):
        paired_models(one, elsewhere)
    file = other.record.folder / "predictions" / "test.jsonl"
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    file.unlink()
    with pytest.raises(ValueError, match=f"{other.id} has no test predictions"):
        paired_models(one, other)
    answers[0].pop("predicted")
    file.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    edited_record(other.record.folder, lambda record: record.update(files=[]))
    with pytest.raises(ValueError, match=f"the test predictions of {other.id} cannot be scored"):
        paired_models(one, Run(RunRecord.load(other.record.folder), "other"))


def test_a_score_that_is_no_number_is_not_compared():
    """A correlation has no value where all answers are the same: no p value may come of it."""
    gold = [float(number % 7) for number in range(40)]
    runs = [
        SimpleNamespace(
            id=name,
            metric="pearson",
            scorer=NumberScores(),
            answers=lambda split, of=of: [
                {"id": f"{split}:{n}", "gold": one, "predicted": of(one)} for n, one in enumerate(gold)
            ],
        )
        for name, of in (("good", lambda one: 0.9 * one), ("collapsed", lambda one: 3.0))
    ]
    with pytest.raises(ValueError, match="pearson of collapsed is no number"):
        paired_models(*runs)
