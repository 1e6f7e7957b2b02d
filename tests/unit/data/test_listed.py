"""Examples that a file names by their ids, and labels that people have given."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from peftlab.data.labelled import read_labelled, write_labelled
from peftlab.data.listed import of_list, read_list, write_list
from peftlab.data.named_files import NamedFile, resolve_files
from peftlab.data.spec import BudgetSpec
from peftlab.errors import ConfigError, DataError
from peftlab.runs.identity import identity
from peftlab.storage.digests import file_sha256
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.multilabel import MultiLabel
from peftlab.tasks.ner import Ner
from peftlab.tasks.regression import Regression
from peftlab.tasks.task import Selection

EXAMPLES = [Text(f"train:{n}", f"text {n}", "ab"[n % 2]) for n in range(6)]
SPLITS = {"train": EXAMPLES, "validation": [Text("v", "v", "a")], "test": [Text("t", "t", "b")]}


def named(file):
    return NamedFile(path=file, sha256=file_sha256(file))


def test_a_list_takes_its_examples_in_the_order_of_the_split(tmp_path):
    write_list(tmp_path / "a.json", ["train:4", "train:1"])
    assert of_list(SPLITS, named(tmp_path / "a.json")) == SPLITS | {"train": [EXAMPLES[1], EXAMPLES[4]]}
    write_list(tmp_path / "b.json", ["train:0"], ["train:5", "train:2"])
    with_validation = {"train": [EXAMPLES[0]], "validation": [EXAMPLES[2], EXAMPLES[5]]}
    assert of_list(SPLITS, named(tmp_path / "b.json")) == SPLITS | with_validation


def test_what_is_no_list_of_these_data(tmp_path):
    for content, reason in (
        ("[]", "expected ids"),
        ("{", "is not JSON"),
        ('{"train": []}', "expected ids"),
        ('{"train": ["train:0"], "test": ["train:1"]}', "expected ids"),
        ('{"train": ["train:0"], "validation": ["train:0"]}', "'train:0' twice"),
        ('{"train": ["train:0", "train:9", "x"]}', "no example 'train:9', nor 1 others"),
    ):
        (tmp_path / "list.json").write_text(content)
        with pytest.raises(ConfigError, match=reason):
            of_list(SPLITS, named(tmp_path / "list.json"))
    file = named(tmp_path / "list.json")
    (tmp_path / "list.json").write_text('{"train": ["train:0"]}')
    with pytest.raises(ConfigError, match="has changed since"):
        read_list(file)


def test_the_path_is_no_identity_and_the_content_is(tmp_path):
    def of(listed, **more):
        config = {"budget": {"listed": listed, "seed": 1}, "data": {}, **more}
        resolve_files(config)
        return config, identity(config, {}, "")["sha256"]

    for name in ("a", "b"):
        write_list(tmp_path / name, ["train:0"])
    write_list(tmp_path / "c", ["train:1"])
    (first, one), (_, same), (_, other) = (of(str(tmp_path / name)) for name in "abc")
    assert one == same != other
    assert first["budget"]["listed"] == {"path": str(tmp_path / "a"), "sha256": file_sha256(tmp_path / "a")}
    assert of(None)[1] == identity({"budget": {"seed": 1}, "data": {}}, {}, "")["sha256"]
    (tmp_path / "a").write_text("{}")
    with pytest.raises(ConfigError, match="has changed since"):
        resolve_files(first)
    with pytest.raises(ConfigError, match=r"budget\.listed: .*gone"):
        of(str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"budget\.listed = 3: expected a file"):
        of(3)


def test_one_rule_chooses_the_examples(tmp_path):
    (tmp_path / "a").touch()
    for other in ({"train_examples": 3}, {"per_class": 2}, {"train_examples": 3, "stratified": True}):
        with pytest.raises(ValidationError, match="listed names the examples"):
            BudgetSpec(name="b", max_steps=1, listed=named(tmp_path / "a"), **other)


def task_of(kind, metric, splits, **options):
    task = kind(name="t", selection=Selection(metric=metric), **options)
    task.learn_labels(splits, None)
    return task


TASKS = {
    "label": (Classification, "accuracy", EXAMPLES),
    "number": (Regression, "pearson", [Text("a", "x", "1"), Text("b", "y", "2")]),
    "labels": (MultiLabel, "micro_f1", [LabelledText("a", "x", ("b", "c"))]),
    "tags": (Ner, "entity_f1", [Sentence("a", ["x"], ["B-PER"], lines=[1])]),
}


def test_labels_of_people_become_training_examples(tmp_path):
    file = tmp_path / "l.jsonl"
    for kind, one, expected in (
        ("label", {"text": "x", "text_pair": "y", "label": " a"}, Text("p", "x", "a", "y", str(file), 1)),
        ("number", {"text": "x", "label": "2.5"}, Text("p", "x", "2.5", None, str(file), 1)),
        ("labels", {"text": "x", "labels": ["c", "b", "c"]}, LabelledText("p", "x", ("b", "c"), None, str(file), 1)),
        ("labels", {"text": "x", "labels": []}, LabelledText("p", "x", (), None, str(file), 1)),
        (
            "tags",
            {"words": ["x", "y"], "tags": ["B-PER", "I-PER"]},
            Sentence("p", ["x", "y"], ["B-PER", "I-PER"], str(file), [1, 1]),
        ),
    ):
        cls, metric, examples = TASKS[kind]
        task = task_of(cls, metric, {"train": examples})
        write_labelled(file, [{"id": "p", **one}])
        before = list(task.labels)
        assert read_labelled(named(file), task, ["train:0"]) == [expected], kind
        assert task.labels == before


def test_what_is_no_label_is_named_by_its_line(tmp_path):
    file = tmp_path / "l.jsonl"
    for kind, one, reason in (
        ("label", {"id": "p", "text": "x", "label": "c"}, "l.jsonl:2: unknown label 'c'"),
        ("label", {"id": "p", "text": "x", "label": ""}, "l.jsonl:2: 'label' is empty"),
        ("label", {"id": "p", "label": "a"}, "l.jsonl:2: expected `text`"),
        ("label", {"id": "train:0", "text": "x", "label": "a"}, "l.jsonl:2: expected an `id`"),
        ("number", {"id": "p", "text": "x", "label": "much"}, "l.jsonl:2: the label 'much' is no finite number"),
        ("labels", {"id": "p", "text": "x", "labels": "b"}, "l.jsonl:2: 'labels' must be a list"),
        ("labels", {"id": "p", "text": "x", "labels": ["d"]}, "l.jsonl:2: unknown label 'd'"),
        ("tags", {"id": "p", "words": ["x", "y"], "tags": ["O"]}, "l.jsonl:2: 'tags' must be 2 BIO tags"),
        ("tags", {"id": "p", "words": ["x", "y"], "tags": ["O", "I-PER"]}, "l.jsonl:2: 'tags': "),
        ("tags", {"id": "p", "words": ["x"], "tags": ["B-LOC"]}, "l.jsonl:2: unknown"),
    ):
        cls, metric, examples = TASKS[kind]
        task = task_of(cls, metric, {"train": examples})
        good = {"label": "a", "number": "1", "labels": ["b"], "tags": ["O"]}[kind]
        name = {"number": "label"}.get(kind, kind)
        first = {"id": "q", "words": ["x"], name: good} if kind == "tags" else {"id": "q", "text": "x", name: good}
        file.write_text(f"{json.dumps(first)}\n{json.dumps(one)}\n")
        with pytest.raises(DataError) as error:
            read_labelled(named(file), task, ["train:0"])
        assert reason in str(error.value), (kind, one)
