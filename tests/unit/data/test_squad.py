"""SQuAD's JSON: what it is read as, and what is wrong with it."""

from __future__ import annotations

import copy
import json

import pytest
from pydantic import ValidationError

from peftlab.data.squad import SquadJson
from peftlab.errors import DataError
from peftlab.tasks.inputs.questions import Answer

FILE = {
    "version": "v2.0",
    "data": [
        {
            "title": "Rome",
            "paragraphs": [
                {
                    "context": "Rome is large. \N{GRINNING FACE} Paris is larger.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "What is larger?",
                            "answers": [{"text": "Paris", "answer_start": 17}, {"text": "larger", "answer_start": 26}],
                            "is_impossible": False,
                        },
                        {"id": "b", "question": "What is small?", "answers": [], "is_impossible": True},
                    ],
                },
                {
                    "context": "Warsaw.",
                    "qas": [{"question": "Where?", "answers": [{"text": "Warsaw", "answer_start": 0}]}],
                },
            ],
        },
        {"paragraphs": [{"context": "Oslo.", "qas": [{"id": 7, "question": "Where?", "answers": []}]}]},
    ],
}


@pytest.fixture
def read(tmp_path):
    def make(content, **options):
        path = tmp_path / "train.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return SquadJson(**options).read({"train": path})["train"]

    return make


def test_questions_with_several_answers_and_with_none(read):
    first, second, third, fourth = read(FILE)
    assert [one.id for one in (first, second, third, fourth)] == ["train:0", "train:1", "train:2", "train:3"]
    assert first.answers == (Answer("Paris", 17), Answer("larger", 26))
    assert (second.answers, second.source_id) == ((), "b")
    assert third.place.endswith("train.json: data[0].paragraphs[1].qas[0]")
    assert (third.source_id, fourth.source_id) == (None, "7")


def test_groups_are_texts_or_articles(read):
    by_text = [one.group for one in read(FILE)]
    assert by_text[0] == by_text[1]
    assert len(set(by_text)) == 3
    by_article = [one.group for one in read(FILE, group="article")]
    assert by_article[:3] == ["Rome"] * 3
    assert by_article[3] == by_text[3]  # an article without a title


def test_splits_are_parts_of_a_file(read):
    assert [one.context for one in read(FILE, articles={"train": (1, 2)})] == ["Oslo."]
    assert len(read(FILE, articles={"test": (1, 2)})) == 4
    for bounds in ((0, 3), (1, 1)):
        with pytest.raises(DataError, match=r"articles=\{train: \[\d, \d\]\}: the file has 2 articles"):
            read(FILE, articles={"train": bounds})


def test_articles_of_a_split_that_there_is_not_are_refused():
    with pytest.raises(ValidationError, match=r"dev(.|\n)*\(train\|validation\|test\)"):
        SquadJson(articles={"train": (0, 1), "dev": (1, 2)})


def changed(change):
    content = copy.deepcopy(FILE)
    change(content, content["data"][0]["paragraphs"][0])
    return content


WRONG = {
    "no data": (lambda whole, one: whole.update(data=None), r"train.json: has no list 'data'"),
    "an article": (lambda whole, one: whole.update(data=[3]), r"data\[0\]: is 3, expected an object"),
    "no paragraphs": (lambda whole, one: whole["data"][1].clear(), r"data\[1\]: there is no key 'paragraphs'"),
    "context": (lambda whole, one: one.update(context=7), r"paragraphs\[0\].context: is 7, expected a text"),
    "blank": (lambda whole, one: one.update(context=" "), r"paragraphs\[0\].context: is empty"),
    "misspelt": (lambda whole, one: one["qas"][0].pop("question"), r"qas\[0\]: there is no key 'question'"),
    "start": (
        lambda whole, one: one["qas"][0]["answers"][0].update(answer_start="17"),
        r"answers\[0\].answer_start: is",
    ),
    "true": (lambda whole, one: one["qas"][0]["answers"][0].update(answer_start=True), r"answer_start: is true"),
    "elsewhere": (
        lambda whole, one: one["qas"][0]["answers"][0].update(answer_start=18),
        r"answers\[0\]: the answer 'Paris' does not begin at 18. It first stands at 17",
    ),
    "nowhere": (lambda whole, one: one["qas"][0]["answers"][1].update(text="x"), r"The text holds no such piece"),
    "negative": (lambda whole, one: one["qas"][0]["answers"][1].update(answer_start=-7), r"does not begin at -7"),
    "empty": (lambda whole, one: one["qas"][0]["answers"][1].update(text=" "), r"answers\[1\]: an answer is empty"),
    "impossible": (lambda whole, one: one["qas"][1].update(is_impossible=False), r"qas\[1\]: is_impossible is false"),
    "twice": (
        lambda whole, one: one["qas"][1].update(id="a"),
        r"qas\[1\]: the id 'a' is that of data\[0\].*qas\[0\], too",
    ),
    "id": (lambda whole, one: one["qas"][1].update(id=[1]), r"qas\[1\].id: is \[1\], expected a text"),
    "none": (lambda whole, one: whole.update(data=[{"paragraphs": []}]), r"empty split 'train'"),
}


def test_what_is_wrong_is_named_with_its_place(read):
    for name, (change, message) in WRONG.items():
        content = changed(change)
        with pytest.raises(DataError, match=message) as error:
            read(content)
        assert "train.json" in str(error.value), name


def test_what_is_no_json_is_named_with_its_line(read):
    with pytest.raises(DataError, match=r"train.json:2: is not JSON"):
        read('{"data": [\n}')
    with pytest.raises(DataError, match="Is it JSON Lines"):
        read('{"question": "a"}\n{"question": "b"}\n')
    with pytest.raises(DataError, match="nested too deeply"):
        read("[" * 100_000)
    with pytest.raises(DataError, match="is not JSON that can be read"):
        read('{"data": ' + "9" * 5000 + "}")
