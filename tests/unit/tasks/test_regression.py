from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.unit.tasks.conftest import answers, reply
from torch.nn import functional as F

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.regression import Regression
from peftlab.tasks.task import Selection

EXAMPLES = [
    Text("train:0", "the rome", "-1", file="f.csv", line=2),
    Text("train:1", "paris", "2.5", file="f.csv", line=3),
    Text("train:2", "nothing happened today .", "3e0", file="f.csv", line=4),
]
LOGITS = torch.tensor([[-1.0], [0.5], [3.0]])


def bare(**options) -> Regression:
    return Regression(name="regression", selection=Selection(metric="pearson"), **options)


def learnt(examples=EXAMPLES, **options) -> Regression:
    task = bare(**options)
    task.learn_labels({"train": examples}, None)
    task.settle(examples, None)
    return task


def batch_of(task, tokenizer, examples=EXAMPLES):
    encoded = task.encode(examples, Processor("tokenizer", tokenizer), Limits(64, "truncate"))
    return task.collate(examples, encoded, range(len(examples)))


class TestTargets:
    def test_they_are_standardised_by_the_training_split(self, tokenizer):
        task = learnt()
        assert task.settled() == {"mean": 1.5, "sd": pytest.approx(1.7795130)}
        targets = batch_of(task, tokenizer).targets["labels"]
        assert (targets.mean().item(), targets.std(correction=0).item()) == (
            pytest.approx(0, abs=1e-6),
            pytest.approx(1),
        )

    def test_a_scale_that_is_given_stays(self):
        assert learnt(mean=0.0, sd=2.0).settled() == {"mean": 0.0, "sd": 2.0}

    def test_those_of_another_run_are_put_on_the_own_scale(self):
        """A perfect model of either run predicts the same numbers."""
        numbers = torch.tensor([[3.0], [7.0]])
        mine, theirs = learnt(mean=5.0, sd=0.5), learnt(mean=-2.0, sd=4.0)
        converted = mine.in_own_units((numbers + 2) / 4, theirs)
        torch.testing.assert_close(converted, (numbers - 5) / 0.5)
        assert mine.in_own_units(numbers, learnt(mean=5.0, sd=0.5)) is numbers

    @pytest.mark.parametrize("label", ["good", "nan", "1,5", "inf", "1_0", "-1e200"])
    def test_what_is_no_number_is_refused(self, label):
        with pytest.raises(DataError, match=f"f.csv:2: the label '{label}' is no finite number"):
            learnt([Text("train:0", "a", label, file="f.csv", line=2)])

    @pytest.mark.parametrize("options", [{}, {"sd": 1.0}])
    def test_a_spread_that_rounding_would_spoil_is_refused(self, options):
        minutes = [Text(f"train:{n}", "a", str(1_700_000_000 + 60 * n)) for n in range(30)]
        with pytest.raises(ConfigError, match="Subtract a constant"):
            learnt(minutes, **options)
        years = [Text(f"train:{n}", "a", str(2000 + n)) for n in range(30)]
        assert learnt(years).settled()["mean"] == 2014.5
        assert learnt([EXAMPLES[1]] * 2, sd=1.0).settled() == {"mean": 2.5, "sd": 1.0}

    def test_equal_targets_and_declared_labels_are_refused(self):
        with pytest.raises(ConfigError, match=r"all 2 training targets are 2\.5"):
            learnt([EXAMPLES[1]] * 2)
        with pytest.raises(ConfigError, match="task=regression has no labels"):
            bare().learn_labels({"train": EXAMPLES}, ["1"])


class TestLosses:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, F.mse_loss),
            ({"criterion": "huber", "huber_delta": 0.5}, lambda a, b, **o: F.huber_loss(a, b, delta=0.5, **o)),
        ],
    )
    def test_they_are_of_standardised_numbers(self, tokenizer, options, expected):
        task = learnt(**options)
        batch = batch_of(task, tokenizer, [*EXAMPLES, Text("text:0", "rome", None)])
        losses = task.losses(SimpleNamespace(logits=torch.cat([LOGITS, torch.ones(1, 1)])), batch)
        target = torch.tensor([(x - 1.5) / task.sd for x in (-1.0, 2.5, 3.0)])
        torch.testing.assert_close(losses[:3], expected(LOGITS.squeeze(-1), target, reduction="none"))
        assert (losses[3].item(), batch.weights.tolist()) == (0, [1, 1, 1, 0])

    def test_divergences_are_of_normal_distributions(self, tokenizer):
        task = learnt()
        batch, others = batch_of(task, tokenizer), SimpleNamespace(logits=LOGITS + 2)
        assert task.divergences(SimpleNamespace(logits=LOGITS), others, batch).tolist() == [2, 2, 2]


class TestAnswers:
    def test_they_are_on_the_scale_of_the_data(self, tokenizer):
        task = learnt(mean=1.0, sd=2.0)
        given = answers(task, LOGITS, batch_of(task, tokenizer))
        assert [one["predicted"] for one in given] == [-1, 2, 7]
        assert [one["gold"] for one in given] == [-1, 2.5, 3]
        batch = batch_of(task, tokenizer, [Text("text:0", "rome", None, "paris")])
        assert reply(task, LOGITS[:1], batch) == {"predicted": -1}

    def test_they_agree_up_to_the_spread_of_the_targets(self):
        task = learnt(mean=0.0, sd=100.0)
        assert task.agree({"predicted": 50.0}, {"predicted": 50.05}, 1e-3)
        assert not task.agree({"predicted": 50.0}, {"predicted": 50.2}, 1e-3)
