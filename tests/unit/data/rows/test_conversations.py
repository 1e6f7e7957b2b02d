"""Rows with conversations: the forms that are looked for, and what is said of those that have none."""

from __future__ import annotations

import json

import pytest

from peftlab.data.rows.conversations import ConversationRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.row_reader import Place
from peftlab.errors import DataError
from peftlab.generation.conversations import Message

HERE = Place("a.jsonl", 7)
TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "rome", "name": "x"},
]


def read(row, **options):
    return ConversationRows(**options).example_of(row, "train:0", HERE)


def test_the_forms_of_a_row():
    pair = (Message("user", "hi"), Message("assistant", "rome"))
    with_input = (Message("user", "hi\n\nthere"), Message("assistant", "rome"))
    for row, messages in (
        ({"messages": TURNS, "prompt": "not read"}, (Message("system", "be brief"), *pair)),
        ({"instruction": "hi", "input": "there", "output": "rome"}, with_input),
        ({"instruction": "hi", "input": "", "output": "rome"}, pair),
        ({"instruction": "hi", "input": None, "output": "rome"}, pair),
        ({"instruction": "hi", "output": "rome"}, pair),
        ({"prompt": "hi", "answer": "rome"}, pair),
        ({"text": "a text"}, (Message("text", "a text"),)),
        ({"messages": None, "instruction": "hi", "output": "rome", "text": None}, pair),
        ({"messages": None, "instruction": None, "output": None, "prompt": "hi", "answer": "rome"}, pair),
    ):
        found = read(row)
        assert found.messages == messages
        assert (found.place, found.group) == ("a.jsonl:7", None)


def test_other_names_of_columns():
    nested = {"instruction": "hi", "instances": [{"input": "there", "output": "rome"}], "who": 3, "role": "be brief"}
    found = read(nested, input="instances.0.input", output="instances.0.output", group="who", system="role")
    assert [content for _, content in found.messages] == ["be brief", "hi\n\nthere", "rome"]
    assert found.group == "3"
    assert read({"prompt": "hi", "messages": TURNS}, messages=None, answer="prompt").answer == "hi"
    for empty in (None, {"turns": None}):
        assert read({"talk": empty, "prompt": "hi", "answer": "rome"}, messages="talk.turns").answer == "rome"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "hi"}, "there is no conversation.*messages, instruction, prompt, text; it has question"),
        ({"messages": "hi"}, r"'messages': expected a list of turns"),
        ({"messages": []}, r"'messages': expected a list of turns"),
        ({"messages": [{"role": "user"}]}, "turn 0: expected an object with `role` and `content`"),
        ({"messages": TURNS[1:2]}, "nothing to learn"),
        ({"messages": TURNS[:1]}, "only a system turn"),
        ({"messages": TURNS[:2] + TURNS[1:2]}, "turn 2 has the role 'user'; expected 'assistant'"),
        ({"messages": [*TURNS[:2], {"role": "assistant", "content": " "}]}, "turn 2: the assistant's answer is blank"),
        ({"messages": [*TURNS, TURNS[0]]}, "turn 3 has the role 'system'; expected 'user'"),
        ({"instruction": "hi", "output": ""}, "'output' is \"\"; expected a text"),
        ({"instruction": "hi"}, "there is no column 'output'"),
        ({"prompt": 3, "answer": "x"}, "'prompt' is 3; expected a text"),
        ({"text": None, "messages": None}, "there is no conversation.* in one of the columns .*; it has text"),
        ({"instruction": "", "output": "rome"}, "'instruction' is \"\"; expected a text"),
        ({"instruction": "hi", "output": None, "text": "x"}, "'output' is null; expected a text"),
    ],
)
def test_rows_that_hold_none(row, message):
    with pytest.raises(DataError, match=rf"^a\.jsonl:7: .*{message}"):
        read(row)


def test_files_in_several_containers(tmp_path):
    rows = [{"instruction": "hi", "input": "", "output": "rome"}, {"instruction": "more", "input": "x", "output": "y"}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    lines = ["instruction,input,output", *(",".join(row.values()) for row in rows)]
    (tmp_path / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    contents = []
    for name in ("train.jsonl", "train.csv"):
        found = RowFiles(rows=ConversationRows()).read({"train": tmp_path / name})["train"]
        contents.append([one.messages for one in found])
    assert contents[0] == contents[1]
    assert contents[0][1][0].content == "more\n\nx"


def test_what_is_asked_may_have_empty_columns():
    asked = ConversationRows().asked({"messages": None, "instruction": None, "prompt": "hi"})
    assert asked["messages"] == [{"role": "user", "content": "hi"}]
    assert ConversationRows().asked({"messages": None, "text": "hi"})["text"] == "hi"
