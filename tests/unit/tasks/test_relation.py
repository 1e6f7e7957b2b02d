"""What the task of relations does besides a classifier."""

from __future__ import annotations

import pytest

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.marked_texts import MarkedText
from peftlab.tasks.relation import RelationClassification
from peftlab.tasks.task import Selection


@pytest.fixture
def task():
    return RelationClassification(name="relation", selection=Selection(metric="relation_f1"))


def text(marked: str) -> MarkedText:
    return MarkedText.of_marked(marked, "train:0", "a")


def test_an_input_is_marked_or_says_where_its_entities_are(task):
    marked = task.from_input({"text": "<e1>Ada</e1> moved to <e2>Rome</e2>"}, "text:0")
    places = task.from_input({"text": "Ada moved to Rome", "head": [0, 3], "tail": [13, 17]}, "text:0")
    assert marked == places
    for faulty in (
        {"text": "Ada"},
        {"text": "Ada in Rome", "head": [0, 3]},
        {"text": "Ada", "head": [0, 9], "tail": [0, 1]},
    ):
        with pytest.raises(DataError, match="expected `text`, a string with <e1>"):
            task.from_input(faulty, "text:0")


def test_edits_keep_the_entities(task):
    for marked in (
        "oh <e2>Rome</e2> saw <e1>Ada</e1> .",
        "in <e1>New <e2>York</e2></e1> now",
        "<e2>a <e1>b</e2> c</e1> d",
    ):
        example = text(marked)
        (editable,) = task.editable(example)
        edited = task.edited(example, [editable.replaced({place: ["so", "so"] for place in editable.free})])
        assert edited.text != example.text
        for before, after in ((example.head, edited.head), (example.tail, edited.tail)):
            assert edited.text[slice(*after)] == example.text[slice(*before)]
        assert task.edited(example, [editable]) == example
        with pytest.raises(ValueError, match="may not become"):
            editable.replaced({editable.spans[0].start: ["x"]})


def test_other_entities_in_the_same_text_make_another_example(task):
    one, other = text("<e1>Ada</e1> <e2>Rome</e2>"), text("<e2>Ada</e2> <e1>Rome</e1>")
    assert task.text_key(one) != task.text_key(other)
    assert task.encoded_text(one) != task.encoded_text(other)


def test_the_label_without_a_relation_is_one_of_the_data(task):
    with pytest.raises(ConfigError, match=r"task\.no_relation = 'Other' is no label of the data. Labels: a, b"):
        task.learn_labels({"train": [text("<e1>x</e1> <e2>y</e2>")]}, ["a", "b"])
    task.no_relation = None
    task.learn_labels({"train": [text("<e1>x</e1> <e2>y</e2>")]}, ["a", "b"])


def test_markers_are_two_or_four():
    with pytest.raises(ConfigError, match="three tokens; name two, or four"):
        RelationClassification(name="relation", selection=Selection(metric="loss"), markers=["a", "b", "c"])
