"""The files of SemEval-2010 task 8."""

from __future__ import annotations

import pytest

from peftlab.data.semeval import SemEval2010Task8
from peftlab.errors import DataError

FILE = (
    '8001\t"The <e1>fire</e1> was caused by <e2>wind</e2>."\nCause-Effect(e2,e1)\nComment: of two\nlines\n\n'
    '8002\t"A <e1>cup</e1> of "<e2>tea</e2>"."\r\nOther\r\nComment:\r\n\r\n\n8003\t"<e1>a</e1> <e2>b</e2>"\nOther'
)


def read(tmp_path, content):
    (tmp_path / "TRAIN_FILE.TXT").write_bytes(content.encode())
    return SemEval2010Task8().read({"train": tmp_path / "TRAIN_FILE.TXT"})["train"]


def test_sentences_entities_and_labels(tmp_path):
    first, second, third = read(tmp_path, FILE)
    assert first.text == "The fire was caused by wind."
    assert (first.text[slice(*first.head)], first.text[slice(*first.tail)]) == ("fire", "wind")
    assert (first.id, first.label, first.line) == ("train:0", "Cause-Effect(e2,e1)", 1)
    assert (second.text, second.label, second.line) == ('A cup of "tea".', "Other", 6)
    assert (third.label, third.place) == ("Other", f"{tmp_path / 'TRAIN_FILE.TXT'}:11")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty split 'train'"),
        ("\nThe fire\nOther\n", ":2: expected a number, a tab and a sentence"),
        ('1\t"<e1>a</e1> <e2>b</e2>"\n', ":2: expected the label of the sentence before it"),
        ('1\t"<e1>a</e1> <e2>b</e2>"\n2\t"<e1>a</e1> <e2>b</e2>"\n', ":2: expected the label"),
        ('1\t"<e1>a</e1> <e2>b</e2>"\nOther\n2\t"<e1>a</e1> <e2>b</e2>"\nOther\n', ":3: expected a blank line before"),
        ('1\t"<e1>a</e1> b</e2>"\nOther\n', ":1: it lacks <e2>; expected <e1>...</e1>"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, content, message):
    with pytest.raises(DataError) as error:
        read(tmp_path, content)
    assert message in str(error.value)
