"""Rows with two answers to a prompt: their forms, and what is no pair."""

from __future__ import annotations

import pytest

from peftlab.data.rows.preferences import PreferenceRows
from peftlab.data.rows.row_reader import Place
from peftlab.errors import DataError
from peftlab.generation.conversations import Message

PLACE = Place("pairs.jsonl", 3)


def turns(*contents, begin="user"):
    roles = ["user", "assistant"] if begin == "user" else ["assistant", "user"]
    return [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]


def read(row, **settings):
    return PreferenceRows(**settings).example_of(row, "train:0", PLACE)


def test_the_forms_of_a_pair_are_one_example():
    prompt, better, worse = turns("where?"), turns("in Rome", begin="assistant"), turns("no idea", begin="assistant")
    texts = read({"prompt": "where?", "chosen": "in Rome", "rejected": "no idea"})
    assert (texts.prompt, texts.answers) == ((Message("user", "where?"),), ("in Rome", "no idea"))
    messages = read({"prompt": prompt, "chosen": better, "rejected": worse})
    repeated = read({"prompt": "where?", "chosen": [*prompt, *better], "rejected": [*prompt, *worse]})
    implicit = read({"chosen": [*prompt, *better], "rejected": [*prompt, *worse]}, prompt=None)
    assert texts == messages == repeated == implicit
    other = read({"prompt": "where?", "chosen": "there", "rejected": "here"})
    assert other.group == texts.group  # the pairs of a prompt are held out together
    assert texts.mapped(str.upper).answers == ("IN ROME", "NO IDEA")


def test_a_conversation_before_the_answers():
    begin = turns("where?", "in Rome", "and since when?")
    row = {
        "chosen": [*begin, *turns("since May", begin="assistant")],
        "rejected": [*begin, *turns("?", begin="assistant")],
    }
    pair = read(row, prompt=None)
    assert [one.content for one in pair.prompt] == ["where?", "in Rome", "and since when?"]
    assert [len(one.messages) for one in pair.conversations] == [4, 4]


def test_equal_answers_prefer_nothing():
    assert read({"prompt": "where?", "chosen": "here", "rejected": "here"}) is None


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        ({"prompt": "a", "chosen": "b"}, {}, r"pairs.jsonl:3: there is no column 'rejected'"),
        ({"prompt": "a", "chosen": 1, "rejected": "c"}, {}, r"pairs.jsonl:3: 'chosen': expected a text, or a list"),
        ({"prompt": "a", "chosen": [{"role": "assistant"}], "rejected": "c"}, {}, "'chosen': expected a text, or"),
        ({"chosen": "b", "rejected": "c"}, {"prompt": None}, "has no turn before its answer. Name the column"),
        ({"prompt": "a", "chosen": turns("x", "b"), "rejected": "c"}, {}, "one turn of the assistant after the prompt"),
        ({"prompt": "a", "chosen": " ", "rejected": "c"}, {}, "pairs.jsonl:3: turn 1: the assistant's answer is blank"),
        ({"prompt": turns("a", "b"), "chosen": "d", "rejected": "c"}, {}, "turn 2 has the role 'assistant'"),
    ],
)
def test_rows_that_are_no_pair(row, settings, message):
    with pytest.raises(DataError, match=message):
        read(row, **settings)
