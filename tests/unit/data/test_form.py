"""What is predicted has the form of what was trained on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab.data.columns import Columns
from peftlab.data.delimited import Delimited
from peftlab.data.folders import Folders
from peftlab.data.form import Form, form_of, has_groups
from peftlab.data.json_lines import JsonLines
from peftlab.data.rows.conversations import ConversationRows
from peftlab.errors import DataError


@pytest.mark.parametrize(
    ("format", "form"),
    [
        (Delimited(), Form(None, None, False)),
        (Delimited(text="body", label="y", pair="other"), Form("body", "other", True)),
        (Delimited(text=0, label=1, pair=2, header=False), Form(None, None, True)),
        (JsonLines(), Form("text", None, False)),
        (JsonLines(text="premise", pair="hypothesis"), Form("premise", "hypothesis", True)),
        (Columns(), Form(None, None, False)),
        (Folders(), Form(None, None, False)),
        (SimpleNamespace(), Form(None, None, None)),  # of the user's own: nothing is known
    ],
)
def test_it_is_read_off_the_format(format, form):
    assert form_of(format) == form


PAIRS, SINGLE, UNKNOWN = Form("premise", "other", True), Form("body", None, False), Form()


@pytest.mark.parametrize(
    ("form", "given", "expected"),
    [
        (PAIRS, {"text": "a", "text_pair": "b"}, {}),
        (PAIRS, {"text": "a", "other": "b"}, {"text_pair": "b"}),
        (PAIRS, {"premise": "a", "other": "b"}, {"text": "a", "text_pair": "b"}),
        (PAIRS, {"premise": "a", "text": "a", "text_pair": "b", "other": "b"}, {}),
        (Form(pairs=True), {"text": "", "text_pair": " ", "n": 1}, {}),
        (SINGLE, {"text": "a", "other": "b"}, {}),
        (SINGLE, {"body": "a", "text_pair": None}, {"text": "a"}),
        (SINGLE, {"words": ["a"]}, {}),
        (UNKNOWN, {"text": "a"}, {}),
        (UNKNOWN, {"text": "a", "text_pair": "b"}, {}),
    ],
)
def test_texts_come_under_their_usual_names(form, given, expected):
    assert form.usual(given) == given | expected


@pytest.mark.parametrize(
    ("form", "given", "message"),
    [
        (
            PAIRS,
            {"text": "a"},
            r"takes pairs of texts: expected an object with `text` \(or `premise`\) and `text_pair` \(or `other`\)",
        ),
        (PAIRS, {"other": "b"}, "takes pairs of texts"),
        (PAIRS, {"text": "a", "text_pair": None}, "takes pairs of texts"),
        (PAIRS, {"words": ["a"]}, "takes pairs of texts"),
        (Form(pairs=True), {"text": "a", "other": "b"}, "expected an object with `text` and `text_pair`, both strings"),
        (PAIRS, {"premise": "a", "text": "x", "other": "b"}, "`premise`, as this run calls it, and `text` differ"),
        (PAIRS, {"text": "a", "text_pair": "x", "other": "b"}, "`other`, as this run calls it, and `text_pair` differ"),
        (SINGLE, {"text": "a", "text_pair": "b"}, "takes single texts, no pairs: leave `text_pair` out"),
        (SINGLE, {"body": "a", "text": "b"}, "`body`, as this run calls it, and `text` differ"),
    ],
)
def test_another_form_is_refused(form, given, message):
    with pytest.raises(DataError, match=message):
        form.usual(given)


def turns(*contents):
    roles = ("user", "assistant") if len(contents) < 3 else ("system", "user", "assistant")
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


@pytest.mark.parametrize(
    ("rows", "given", "messages"),
    [
        (ConversationRows(), {"prompt": "a"}, turns("a")),
        (ConversationRows(), {"prompt": "a", "answer": "b"}, turns("a")),
        (ConversationRows(), {"instruction": "a", "input": ""}, turns("a")),
        (ConversationRows(), {"instruction": "a", "input": "b"}, turns("a\n\nb")),
        (
            ConversationRows(prompt="question", system="rules"),
            {"rules": "a", "question": "b"},
            turns("a", "b", "c")[:2],
        ),
        (ConversationRows(messages="dialog"), {"dialog": turns("a", "b")}, turns("a", "b")),
        (ConversationRows(messages="dialog"), {"messages": turns("a")}, turns("a")),
    ],
)
def test_a_question_is_asked_as_in_the_data(rows, given, messages):
    others = {key: value for key, value in given.items() if key != rows.system}
    assert form_of(SimpleNamespace(rows=rows)).usual(given) == {**others, "messages": messages}


def test_a_text_is_asked_as_it_is():
    form = form_of(SimpleNamespace(rows=ConversationRows()))
    assert form.usual({"text": "a"}) == {"text": "a"}
    with pytest.raises(DataError, match=r"^the object: 'prompt' is 1; expected a text"):
        form.usual({"prompt": 1})


def test_a_reader_may_make_groups_of_its_own():
    assert has_groups(SimpleNamespace(rows=SimpleNamespace(group=None, groups=True)))
    assert not has_groups(SimpleNamespace(rows=SimpleNamespace(group=None)))
    assert has_groups(SimpleNamespace(group="document"))
