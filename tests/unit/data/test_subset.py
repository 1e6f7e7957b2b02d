"""Parts of a data set by label or by column: who is in, and that the division into splits stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.data.delimited import Delimited
from peftlab.data.reading import read_data_set
from peftlab.data.spec import DataSpec
from peftlab.data.splits import Splits
from peftlab.data.subset import Subset
from peftlab.errors import ConfigError, DataError
from peftlab.sources import FilesSource
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.multilabel import MultiLabel
from peftlab.tasks.task import Selection

ROWS = [f"text number {n},{'abcd'[n % 4]},{'x' if n % 3 else 'y'}" for n in range(240)]


@pytest.fixture
def read(tmp_path: Path):
    (tmp_path / "all.csv").write_text("\n".join(["text,label,domain", *ROWS]) + "\n", encoding="utf-8")

    def splits_of(subset=None, labels=None):
        spec = DataSpec(
            name="letters",
            source=FilesSource(path=tmp_path),
            splits=Splits(train="all.csv", validation=0.2, test=0.2),
            format=Delimited(text="text", label="label"),
            subset=subset,
            labels=labels,
        )
        task = Classification(name="classification", selection=Selection(metric="accuracy", mode="max"))
        splits, _ = read_data_set(spec, task)
        return {split: {(one.text, one.label) for one in members} for split, members in splits.items()}, task.labels

    return splits_of


def test_an_example_stays_in_its_split(read):
    whole, _ = read()
    part, labels = read(Subset(labels=["a", "c"]))
    assert labels == ["a", "c"]
    assert part == {split: {one for one in members if one[1] in "ac"} for split, members in whole.items()}
    of_domain, labels = read(Subset(labels=["a"], column="domain", values=["y"]), labels=["b", "a"])
    assert labels == ["b", "a"]  # of which no example is here
    y = {row.split(",")[0] for row in ROWS if row.endswith("y")}
    assert of_domain["train"] == {one for one in whole["train"] if one[1] == "a" and one[0] in y}


def test_what_would_choose_nothing_is_an_error(read):
    for options, message in (
        ({}, "it chooses nothing"),
        ({"labels": []}, "it chooses nothing"),
        ({"column": "domain"}, "column and values belong together"),
    ):
        with pytest.raises(ValueError, match=message):
            Subset(**options)
    with pytest.raises(DataError, match=r"subset.labels: no training example has 'A'"):
        read(Subset(labels=["A", "b"]), labels=["A", "b"])
    with pytest.raises(DataError, match=r"subset.values: no training example has 'z'"):
        read(Subset(column="domain", values=["x", "z"]))
    with pytest.raises(DataError, match="domian"):
        read(Subset(column="domian", values=["x"]))


def test_labels_choose_where_an_example_has_one():
    accuracy = Selection(metric="accuracy", mode="max")
    task = Classification(name="classification", selection=accuracy)
    examples = [Text("1", "t", "0"), Text("2", "t", None)]
    assert list(Subset(labels=["0"]).holds(examples, task, None)) == [True, False]
    several = MultiLabel(name="multilabel", selection=Selection(metric="micro_f1", mode="max"))
    for labels in (("a", "b"), ()):
        with pytest.raises(ConfigError, match="has not one label"):
            Subset(labels=["a"]).holds([LabelledText("1", "t", labels)], several, None)
