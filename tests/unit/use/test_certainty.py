"""How sure the scores of a run are, from its predictions and from the runs beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from peftlab.report.statistics.means import mean
from peftlab.runs.folder import RunFolder
from peftlab.runs.other_seeds import other_seeds
from peftlab.runs.record import RunRecord
from peftlab.runs.record_form import Status
from peftlab.scores.class_scores import ClassScores
from peftlab.specs import SECTIONS
from peftlab.use.card import Certainty
from peftlab.use.certainty import certainty

SCORER = ClassScores(["a", "b"])


def make(name: str, seed: int, right: float = 0.5, groups: int = 0, status: Status = "completed", **more: Any):
    """Make a run of 100 test examples, of which a share is answered right: the first ones, or all of the first groups.

    `more` are other sections of its configuration.
    """
    folder = Path("runs/tiny", name)
    folder.mkdir(parents=True)
    config: dict[str, Any] = {key: {"name": "x"} for key in SECTIONS if "." not in key}
    for key in (key for key in SECTIONS if "." in key):
        outer, _, inner = key.partition(".")
        config[outer][inner] = {"x": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"seed": seed} | more))
    record = RunRecord.start(folder, run_id=name, name="tiny", command=[], overrides=[], identity={})
    record.update(selection={"metric": "accuracy"}, method={"name": "lora"})
    group = [n % groups if groups else n for n in range(100)]
    answers = ["a" if one < right * (groups or 100) else "b" for one in group]
    named = [str(one) if groups else None for one in group]
    rows = [{"gold": "a", "predicted": answer, "group": one} for answer, one in zip(answers, named, strict=True)]
    (folder / "predictions").mkdir()
    (folder / "predictions/test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    record.add_metric("accuracy", "test", SCORER.scores(SCORER.total(rows))["accuracy"], "best", "a scorer")
    record.finish(status)
    return RunFolder(record)


def accuracy(sure: Certainty) -> tuple[float, float]:
    (interval,) = (one for one in sure.intervals if one.name == "accuracy")
    assert (interval.split, interval.level) == ("test", 0.95)
    return interval.low, interval.high


class TestTestSets:
    def test_the_interval_is_as_wide_as_the_binomial_one_over_examples_and_wider_over_groups(self):
        single = certainty(make("one", 0), SCORER)
        low, high = accuracy(single)
        assert np.isclose([low, high], [0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05], atol=0.015).all()
        assert single.drawn_from == "100 examples of the test split, whose data names no documents"
        grouped = certainty(make("two", 0, groups=10), SCORER)
        wide_low, wide_high = accuracy(grouped)
        assert wide_high - wide_low > 2.5 * (high - low)
        assert grouped.drawn_from == "10 groups of examples of the test split"

    def test_a_perfect_score_is_not_certain(self):
        low, high = accuracy(certainty(make("one", 0, right=1.0), SCORER))
        assert 0.95 < low < 0.97
        assert high == 1.0

    @pytest.mark.parametrize("content", ["", "{}\n", "rubbish\n", '{"gold": "a", "predicted": "c"}\n'])
    def test_predictions_that_cannot_be_scored_say_nothing(self, content):
        run = make("one", 0)
        (run.predictions / "test.jsonl").write_text(content)
        assert certainty(run, SCORER).intervals == ()
        (run.predictions / "test.jsonl").unlink()
        assert certainty(run, SCORER).intervals == ()


class TestSeeds:
    def test_runs_beside_it_that_differ_in_the_seed_alone(self):
        run = make("one", 0, 0.5)
        make("two", 1, 0.6)
        assert certainty(run, SCORER).seeds.startswith("unknown: beside it are fewer than 2 runs that differ")
        make("three", 2, 0.7)
        make("again", 0, 0.1)
        make("failed", 3, 0.1, status="failed")
        make("another", 4, 0.1, peft={"name": "other"})
        (make("damaged", 5, 0.1).path / "config.yaml").write_text("[")
        Path("runs/tiny/half").mkdir()
        Path("runs/tiny/half/record.json").write_text("{")
        assert sorted(other_seeds(run)) == [1, 2]
        over = mean([0.5, 0.6, 0.7])
        assert certainty(run, SCORER).seeds == (
            "3 runs that differ in the seed alone have a mean test accuracy of 0.6000, standard deviation 0.1000; the "
            f"95% interval of the mean is {over.low:.4f} to {over.high:.4f}"
        )

    def test_no_mean_is_above_the_best_score(self):
        run = make("one", 0, 0.9)
        make("two", 1, 1.0)
        make("three", 2, 1.0)
        assert certainty(run, SCORER).seeds.endswith("to 1.0000")

    def test_without_its_own_configuration_nothing_is_known(self):
        run = make("one", 0)
        (run.path / "config.yaml").unlink()
        assert certainty(run, SCORER).seeds == "unknown"
