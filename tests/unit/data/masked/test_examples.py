"""Examples of every kind are masked, and their gold stays where it belongs."""

from __future__ import annotations

import re

import pytest

from peftlab.data.masked.examples import ExampleMask, masked_examples
from peftlab.data.views import View, mapped
from peftlab.errors import ConfigError, DataError
from peftlab.generation.conversations import Conversation, Message
from peftlab.personal_data.masker import Masker
from peftlab.tasks.inputs.choices import Choices
from peftlab.tasks.inputs.marked_texts import MarkedText
from peftlab.tasks.inputs.preferences import Preference
from peftlab.tasks.inputs.questions import Answer, Question
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.source_target import SourceTarget
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.utterances import Utterance
from peftlab.tasks.inputs.words import Sentence

MAIL = "bob@acme.org"
TEXT = f"Ask {MAIL} or Eve."
EXAMPLES = (
    Text("a", TEXT, "x", pair=TEXT, group=MAIL),
    LabelledText("a", TEXT, ("x", "y"), pair=TEXT, group=MAIL),
    SourceTarget("a", TEXT, TEXT, group=MAIL),
    Choices("a", (TEXT, "no"), 1, context=TEXT, question=TEXT, group=MAIL),
    Conversation("a", (Message("user", TEXT), Message("assistant", TEXT)), group=MAIL),
    Preference("a", (Message("user", TEXT),), TEXT, "no", group=MAIL),
    Question("a", TEXT, TEXT, (Answer("Eve", 20), Answer("acme", 8)), group=MAIL, source_id=MAIL),
    MarkedText("a", TEXT, (20, 23), (4, 16), "r", group=MAIL),
    Sentence("a", TEXT.split(), ["O", "B-X", "O", "B-Y"], lines=[1, 2, 3, 4], group=MAIL),
    Utterance("a", TEXT.split(), ["O", "B-X", "O", "B-Y"], group=MAIL, intent="x"),
)


@pytest.fixture(scope="module")
def masker():
    return Masker(kinds=("email",))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: type(one).__name__)
def test_no_text_of_an_example_is_left(masker, example):
    mask = ExampleMask(masker)
    masked = mask(example)
    assert "acme" not in repr(masked)
    assert masked.group == "email:0"
    assert mask.counts["email"] == repr(example).count(MAIL) - 1 - hasattr(example, "source_id")  # without its names
    for gold in ("label", "labels", "tags", "intent", "answer", "lines"):
        if hasattr(example, gold) and not isinstance(example, Conversation):
            assert getattr(masked, gold) == getattr(example, gold)


def test_gold_moves_along(masker):
    mask = ExampleMask(masker)
    question, marked, sentence = (mask(one) for one in EXAMPLES[6:9])
    assert question.answers == (Answer("Eve", 15), Answer("[EMAIL]", 4))
    assert [marked.text[slice(*part)] for part in (marked.head, marked.tail)] == ["Eve", "[EMAIL]"]
    assert sentence.words == ["Ask", "[EMAIL]", "or", "Eve."]
    both = MarkedText("a", TEXT, (4, 7), (8, 16), "r", file="f", line=3)
    with pytest.raises(DataError, match="f:3: both entities"):
        mask(both)


def test_groups_still_differ(masker):
    mask = ExampleMask(masker)
    groups = [mask(Text("a", "", "x", group=group)).group for group in ("a@b.org", "c@d.org", "a@b.org", "g")]
    assert groups == ["email:0", "email:1", "email:0", "g"]


def test_what_is_refused_says_where():
    mask = ExampleMask(Masker(with_="refuse"))
    with pytest.raises(DataError, match=r"^f\.csv:7: it holds personal data: email at characters 4 to 16") as error:
        mask(Text("a", TEXT, "x", file="f.csv", line=7))
    assert "bob" not in str(error.value)
    with pytest.raises(ConfigError, match="needs the method `masked`"):
        mask(re.compile(""))


def test_a_large_split_stays_a_view(masker):
    class Numbered(View[Text]):
        def __len__(self):
            return 3

        def at(self, place):
            return Text(f"t:{place}", f"{place}: {MAIL}", "x")

    masked, counts = masked_examples(Numbered(), ExampleMask(masker))
    assert isinstance(masked, View)
    assert counts == {"masked_email": 3}
    assert [one.text for one in mapped(masked, lambda one: one)] == ["0: [EMAIL]", "1: [EMAIL]", "2: [EMAIL]"]
