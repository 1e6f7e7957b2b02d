from __future__ import annotations

import pytest

from peftlab.personal_data.masked import masked_words
from peftlab.personal_data.masker import Masker
from peftlab.personal_data.objects import masked_object


@pytest.fixture(scope="module")
def masker():
    return Masker(kinds=("email", "phone"))


def test_slices_move_with_the_text(masker):
    text = "Ask bob@acme.org or Eve, +49 30 901820, today."
    masked = masker.mask(text)
    assert masked.text == "Ask [EMAIL] or Eve, [PHONE], today."
    for piece, moved in (
        ("Ask", "Ask"),
        ("Eve", "Eve"),
        ("today", "today"),
        ("acme", "[EMAIL]"),
        ("acme.org or", "[EMAIL] or"),
    ):
        start, end = masked.moved(text.index(piece), text.index(piece) + len(piece))
        assert masked.text[start:end] == moved
    assert masked.moved(0, len(text)) == (0, len(masked.text))
    assert masked.counts == {"email": 1, "phone": 1}


def test_words_stay_as_many(masker):
    words = ["Call", "+49", "30", "901820", ",", "(bob@acme.org),", "", "now"]
    assert masked_words(masker.mask, words) == ["Call", "[PHONE]", "[PHONE]", "[PHONE]", ",", "([EMAIL]),", "", "now"]
    keyed = Masker(with_="surrogate", key=b"k" * 16)
    new = masked_words(keyed.mask, words)
    assert len(new) == len(words)
    assert [len(word) for word in new[:5]] == [len(word) for word in words[:5]]
    assert masked_words(masker.mask, []) == []


def test_places_in_objects_move(masker):
    context = "Ask bob@acme.org or Eve."
    answers = {"text": ["Eve", "acme"], "answer_start": [20, 8]}
    row = {"id": 7, "context": context, "answers": answers, "question": "Not bob@acme.org?"}
    masked = masked_object(row, lambda _: masker.mask)
    assert masked["question"] == "Not [EMAIL]?"
    assert masked["answers"] == {"text": ["Eve", "[EMAIL]"], "answer_start": [15, 4]}
    assert masked["id"] == 7
    squad = {
        "data": [{"paragraphs": [{"context": context, "qas": [{"answers": [{"text": "Eve", "answer_start": 20}]}]}]}]
    }
    (paragraph,) = masked_object(squad, lambda _: masker.mask)["data"][0]["paragraphs"]
    (answer,) = paragraph["qas"][0]["answers"]
    assert paragraph["context"][answer["answer_start"] :].startswith(answer["text"])
    relation = {"text": context, "head": [4, 16], "tail": [20, 23]}
    masked = masked_object(relation, lambda _: masker.mask)
    assert [masked["text"][slice(*masked[name])] for name in ("head", "tail")] == ["[EMAIL]", "Eve"]
    assert masker.object(["a", "bob@acme.org"]) == (["a", "[EMAIL]"], {"email": 1})
