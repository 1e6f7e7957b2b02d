"""What people see of a pool."""

from __future__ import annotations

from peftlab.active_learning.labelling_file import read_answers, read_pool, shown, write_questions
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.task import Selection


def test_people_see_what_the_model_reads_and_no_gold():
    assert shown(Text("a", "x", "yes")) == {"id": "a", "text": "x"}
    assert shown(Text("a", "x", None, "y")) == {"id": "a", "text": "x", "text_pair": "y"}
    assert shown(LabelledText("a", "x", ("yes",))) == {"id": "a", "text": "x"}
    assert shown(Sentence("a", ["x", "y"], ["B-A", "O"])) == {"id": "a", "words": ["x", "y"]}


def test_ids_that_a_spreadsheet_would_take_for_formulas_are_known_again(tmp_path):
    task = Classification(name="classification", selection=Selection(metric="accuracy"))
    task.learn_labels({"train": [Text("t", "x", "yes"), Text("u", "y", "no")]}, None)
    objects = [{"id": "@joe", "text": "x"}, {"id": "'-1", "text": "=y"}, {"id": "b", "text": "z"}]
    write_questions(file := tmp_path / "label-1.csv", objects, task)
    head, *lines = file.read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["'@joe", "'-1", "b"]
    file.write_text("\n".join([head, *(f"{line}yes" for line in lines)]))
    labelled = read_answers(file, objects, task)
    assert [(one["id"], one["label"]) for one in labelled] == [("@joe", "yes"), ("'-1", "yes"), ("b", "yes")]


def test_the_id_0_is_one_and_an_empty_one_is_none(tmp_path):
    file = tmp_path / "pool.jsonl"
    file.write_text("".join(f'{{"text": "x", "id": {id}}}\n' for id in ("0", '"a"', '""', '" "', "null")))
    assert [one["id"] for one in read_pool(file)] == ["0", "a", "pool:2", "pool:3", "pool:4"]
