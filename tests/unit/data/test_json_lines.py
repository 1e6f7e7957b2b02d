from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab.data.json_lines import JsonLines
from peftlab.errors import DataError


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(content: str, **options):
        (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
        return JsonLines(**options).read({"train": tmp_path / "a.jsonl"})["train"]

    return write_and_read


def test_a_file_by_hand(read, tmp_path):
    first, second = read('{"text": "a\\nb", "label": "pos", "more": [1]}\r\n\n{"label": "neg", "text": " ü "}\n')
    assert (first.id, first.text, first.label, first.pair) == ("train:0", "a\nb", "pos", None)
    assert (second.id, second.text, second.label) == ("train:1", " ü ", "neg")
    assert second.place == f"{tmp_path / 'a.jsonl'}:3"


def test_line_separators_within_a_text_end_no_line(read):
    (text,) = read(json.dumps({"text": "a\u2028b\x85c", "label": "1"}, ensure_ascii=False))
    assert text.text == "a\u2028b\x85c"


def test_other_keys_and_pairs(read):
    (text,) = read('{"premise": "a", "hypothesis": "b", "gold": 2}', text="premise", pair="hypothesis", label="gold")
    assert (text.text, text.pair, text.label) == ("a", "b", "2")


@pytest.mark.parametrize(("label", "name"), [("a", "a"), (" a ", "a"), (0, "0"), (True, "true"), (False, "false")])
def test_labels(read, label, name):
    (text,) = read(json.dumps({"text": "t", "label": label}))
    assert text.label == name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'text': 1}", "is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)). "),
        ('["a"]', "is not a JSON object. Write one a line, with 'text' and 'label'."),
        ('{"text": "a"}', "there is no key 'label'. Keys: text. Set data.format.label to one of them."),
        (
            '{"texts": "a", "label": 1}',
            "there is no key 'text'. Did you mean 'texts'? Keys: texts, label. Set data.format.text to one of them.",
        ),
        ('{"text": 1, "label": 1}', "'text' is 1; expected a text. Write one, or remove the line."),
        ('{"text": " ", "label": 1}', "'text' is \" \"; expected a text. Write one, or remove the line."),
        ('{"text": "a", "label": null}', "'label' is null; a label is a text or a whole number."),
        ('{"text": "a", "label": 0.5}', "'label' is 0.5; a label is a text or a whole number."),
        ('{"text": "a", "label": [1]}', "'label' is [1]; a label is a text or a whole number."),
        ('{"text": "a", "label": " "}', "the label is empty. Write one, or remove the line."),
    ],
)
def test_mistakes_are_told_with_file_and_line(read, tmp_path, line, message):
    with pytest.raises(DataError) as error:
        read('{"text": "a", "label": 1}\n\n' + line + "\n")
    assert str(error.value).startswith(f"{tmp_path / 'a.jsonl'}:3: {message}")


def test_a_pair_that_is_missing(read):
    with pytest.raises(DataError, match=r"a\.jsonl:1: there is no key 'b'\. .* Set data\.format\.pair to one"):
        read('{"text": "a", "label": 1}', pair="b")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_an_object(read, content):
    with pytest.raises(DataError, match=r"a\.jsonl: empty split 'train': the file holds no object\."):
        read(content)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ('{"text": "a", "label": 1} {"text": "b", "label": 2}\n', 1, "There is more than one value in it. {several}"),
        ('{"text": "a", "label": 1}{"text": "b", "label": 2}\n', 1, "There is more than one value in it. {several}"),
        ('{"text": "a", "label": 1},\n{"text": "b"},\n', 1, "Leave out the comma after the object."),
        ('{\n "text": "a",\n "label": 1\n}\n{\n "text": "b"\n}\n', 1, "begins here goes over 4 lines. {several}"),
        ('{"text": "a",\n "label": 1}\n', 1, "The object that begins here goes over 2 lines. {several}"),
        ('[\n{"text": "a", "label": 1},\n{"text": "b", "label": 2}\n]\n', 1, "The array that begins here goes over 4"),
        ('[{"text": "a", "label": 1}, {"text": "b", "label": 2}]', 1, "is an array of 2 objects. {array}"),
        ("text,label\na,1\n", 1, "Write one object a line."),
        ('{"text": "a", "label": 1, "label": 2}\n', 1, "the key 'label' appears twice. Remove one of them."),
        ('{"text": "a", "label": 1}\n{"text": "a", "text": "b", "label": 1}\n', 2, "the key 'text' appears twice."),
        ("[" * 100_000, 1, "is JSON that is nested too deeply."),
        ('{"text": "a", "label": 0.5}\n', 1, 'a label is a text or a whole number. Put it in quotes, "0.5".'),
        ('{"text": "a", "label": NaN}\n', 1, "'label' is NaN; a label is a text or a whole number."),
        ('{"text": "a", "label": {"x": 1}}\n', 1, "'label' is {\"x\": 1}; a label is"),
    ],
)
def test_the_message_leads_out(read, tmp_path, content, line, message):
    with pytest.raises(DataError) as error:
        read(content)
    several, array = (f"Write one object a line: `jq -c {filter_} FILE` does." for filter_ in (".", "'.[]'"))
    assert str(error.value).startswith(f"{tmp_path / 'a.jsonl'}:{line}: ")
    assert message.replace("{several}", several).replace("{array}", array) in str(error.value)


def test_a_key_twice_that_nobody_reads_from_deeper_down_is_no_matter(read):
    (text,) = read('{"text": "a", "label": 1, "more": {"x": 1, "x": 2}}')
    assert text.text == "a"


def test_carriage_returns_end_lines_where_no_line_feed_does(read):
    assert [text.text for text in read('{"text": "a", "label": 1}\r\r{"text": "b", "label": 2}\r')] == ["a", "b"]


def test_one_label_as_a_number_and_as_a_text_is_told(read, tmp_path, caplog):
    with caplog.at_level("INFO", logger="peftlab"):
        texts = read('{"text": "a", "label": 1}\n{"text": "b", "label": "1"}\n{"text": "c", "label": 2}\n')
    assert [text.label for text in texts] == ["1", "1", "2"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'a.jsonl'}: the label '1' appears as a number (line 1) and a text (line 2): these are one label"
    ]


def test_groups(read, tmp_path):
    first, second = read('{"text": "a", "label": 1, "doc": "x "}\n{"text": "b", "label": 1, "doc": 7}\n', group="doc")
    assert (first.group, second.group) == ("x", "7")
    for value in ('""', '" "', "null", "[1]", "0.5"):
        with pytest.raises(DataError, match=rf"^{tmp_path / 'a.jsonl'}:1: .* group "):
            read(f'{{"text": "a", "label": 1, "doc": {value}}}', group="doc")
    with pytest.raises(DataError, match=r"there is no key 'docs'. Did you mean 'doc'\?.* data\.format\.group to one"):
        read('{"text": "a", "label": 1, "doc": 1}', group="docs")


def test_weights(read):
    lines = ['{"text": "a", "label": 1, "w": 0.5}', '{"text": "b", "label": 1}', '{"text": "c", "label": 1, "w": null}']
    assert [text.weight for text in read("\n".join(lines), weight="w")] == [0.5, None, None]
    assert [text.weight for text in read("\n".join(lines))] == [None] * 3
    for wrong in ("0", "-1", "true", '"1"', "NaN", "Infinity"):
        with pytest.raises(DataError, match="a weight is a number above 0"):
            read(f'{{"text": "a", "label": 1, "w": {wrong}}}', weight="w")
