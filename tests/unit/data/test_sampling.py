from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from peftlab.data.sampling import half_of, random_sample, sampled, shots, stratified_sample
from peftlab.data.spec import BudgetSpec
from peftlab.errors import ConfigError
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.ner import Ner
from peftlab.tasks.task import Selection

LABELS = ["a"] * 80 + ["b"] * 15 + ["c"] * 5
CLASSES = [{label: 1} for label in LABELS]


def budget(**options):
    return BudgetSpec(name="b", max_steps=1, **options)


def texts(labels=LABELS):
    task = Classification(name="classification", selection=Selection(metric="accuracy"))
    examples = [Text(f"train:{n}", f"text {n}", label) for n, label in enumerate(labels)]
    task.learn_labels({"train": examples}, None)
    return examples, task


class TestSamples:
    def test_the_random_sample_is_that_of_all_runs_so_far(self):
        assert random_sample(20, 6).tolist() == sorted(np.random.default_rng(0).permutation(20)[:6])

    def test_every_sample_contains_the_smaller_ones_of_its_seed(self):
        for sample in (
            lambda size, seed: random_sample(100, size, seed),
            lambda size, seed: stratified_sample(CLASSES, size, seed),
            lambda size, seed: shots(CLASSES, size, seed),
        ):
            for seed in (0, 1):
                sizes = [set(sample(size, seed).tolist()) for size in (1, 2, 5, 16, 50, 100)]
                assert all(smaller <= larger for smaller, larger in itertools.pairwise(sizes))
            assert set(sample(5, 0).tolist()) != set(sample(5, 1).tolist())

    def test_a_share_is_rounded_and_is_one_example_at_least(self):
        assert [len(random_sample(25, share)) for share in (0.1, 0.5, 0.001)] == [2, 12, 1]

    def test_classes_keep_their_proportions_within_one_example(self):
        for size in range(1, 101):
            counts = Counter(LABELS[place] for place in stratified_sample(CLASSES, size))
            assert counts.total() == size
            for label, number in Counter(LABELS).items():
                assert abs(counts[label] - number * size / 100) <= 1

    def test_an_example_counts_for_its_rarest_class(self):
        classes = [*[{"common": 2}] * 40, *[{"common": 1, "rare": 1}] * 20, *[{}] * 40]
        places = stratified_sample(classes, 0.5)
        assert Counter(place // 20 for place in places.tolist())[2] == 10
        assert sum(not classes[place] for place in places) == 20

    def test_shots_hold_each_class_so_often(self):
        for per_class in (1, 4, 9):
            counts = Counter(LABELS[place] for place in shots(CLASSES, per_class))
            assert counts == {"a": per_class, "b": per_class, "c": min(per_class, 5)}

    def test_an_example_with_several_classes_serves_all_of_them(self):
        classes = [{"x": 1, "y": 3}, {"x": 1}, {"y": 1}, {}] * 10
        counts: Counter[str] = Counter()
        for place in shots(classes, 6):
            counts.update(classes[place])
            assert classes[place]
        assert min(counts.values()) >= 6


class TestTheSampleOfABudget:
    def test_without_limits_the_examples_are_left_alone(self):
        examples, task = texts()
        assert sampled("train", examples, task, budget()) is examples
        assert sampled("train", examples, task, budget(train_examples=100)) is examples

    def test_the_examples_stay_in_order(self):
        examples, task = texts()
        for options in ({"train_examples": 0.3}, {"train_examples": 30, "stratified": True}, {"per_class": 3}):
            ids = [example.id for example in sampled("train", examples, task, budget(**options))]
            assert ids == sorted(ids, key=lambda id: int(id.partition(":")[2]))

    def test_entities_are_counted_by_type(self):
        task = Ner(name="ner", selection=Selection(metric="entity_f1"))
        tags = [["B-PER", "I-PER"], ["O", "B-LOC"], ["O", "O"], ["B-PER", "B-PER"]] * 5
        examples = [Sentence(f"train:{n}", ["w", "w"], each, lines=[1, 2]) for n, each in enumerate(tags)]
        task.learn_labels({"train": examples}, None)
        assert [dict(task.classes(example)) for example in examples[:4]] == [{"PER": 1}, {"LOC": 1}, {}, {"PER": 2}]
        taken = sampled("train", examples, task, budget(per_class=4))
        counts = sum((task.classes(example) for example in taken), Counter())
        assert counts["LOC"] == 4
        assert counts["PER"] in (4, 5)

    def test_too_few_of_a_class_are_told(self, caplog):
        examples, task = texts()
        assert len(sampled("train", examples, task, budget(per_class=8))) == 8 + 8 + 5
        assert caplog.messages == ["budget.per_class=8: the training split has fewer of c (5)"]

    def test_a_task_without_classes_refuses_them(self):
        examples, task = texts()
        task.labels = []
        refused = {"per_class": budget(per_class=2), "stratified": budget(train_examples=5, stratified=True)}
        for key, one in refused.items():
            with pytest.raises(ConfigError, match=rf"budget\.{key}: .* task=classification have no classes"):
                sampled("train", examples, task, one)

    def test_two_rules_are_refused(self):
        for options in ({"train_examples": 5, "per_class": 1}, {"per_class": 1, "stratified": True}):
            with pytest.raises(ValidationError, match="per_class"):
                budget(**options)
        for size in (0, -1, 1.5, 0.0, True, float("inf"), float("nan"), "lots"):
            with pytest.raises(ValidationError, match="expected a whole number of examples, a share"):
                budget(train_examples=size)

    def test_a_whole_written_as_a_share_is_refused(self):
        with pytest.raises(ValidationError, match=r"1\.0 may be one example or all of them: write 1, or null for all"):
            budget(train_examples=1.0)
        assert (budget(train_examples=1).train_examples, budget(train_examples=1e3).train_examples) == (1, 1000)


def test_two_halves_share_nothing_and_other_throws_are_independent():
    first, second, third = (set(half_of(1000, half)) for half in (0, 1, 2))
    assert first | second == set(range(1000))
    assert not first & second
    assert 450 < len(first) < 550
    assert 200 < len(first & third) < 300
    assert set(half_of(1000, 0, seed=1)) != first
    assert half_of(1000, 4).tolist() == half_of(1000, 4).tolist()


def test_a_run_takes_the_half_of_its_sample():
    examples, task = texts()
    whole = sampled("train", examples, task, budget(train_examples=20))
    halves = [sampled("train", examples, task, budget(train_examples=20, half=half)) for half in (0, 1)]
    assert sorted(one.id for half in halves for one in half) == sorted(one.id for one in whole)
    with pytest.raises(ConfigError, match=r"none is in this half\. Take more, or the other half, budget\.half="):
        _ = [sampled("train", examples[:1], task, budget(half=half)) for half in (0, 1)]
