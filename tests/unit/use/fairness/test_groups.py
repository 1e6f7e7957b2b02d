"""Groups of examples: by what they say, by a column, crossed; what has no group."""

from __future__ import annotations

import json

import pytest

from peftlab.errors import DataError, UserError
from peftlab.use.fairness.groups import Attribute, are_files, crossed, kind_of, of_column, of_terms, words_of


@pytest.fixture
def terms(tmp_path):
    """A file of terms."""
    file = tmp_path / "who.txt"
    file.write_text("female | male\nshe | he\nnun | monk\n")
    return str(file)


def test_what_a_text_says_whatever_its_form(terms):
    inputs = ["She said", ["the", "monk"], [["He", "and"], "the nun"], {"text": "sheep", "pair": "hero"}, "NUN-like"]
    assert of_terms("terms=who", terms, inputs).values == ("female", "male", "female+male", None, "female")
    assert [*words_of({"a": ["one two", {"b": "three"}], "n": 3})] == ["one", "two", "three"]


def test_terms_of_scripts_without_spaces(tmp_path):
    file = tmp_path / "who.txt"
    file.write_text("female | male\n她 | 他\n女士 | 先生\n", encoding="utf-8")
    inputs = ["这位女士说", ["王", "先", "生", "好"], "我看见她和他", "天气很好"]
    assert of_terms("terms=who", str(file), inputs).values == ("female", "male", "female+male", None)


def test_names_of_files_are_no_texts():
    assert are_files(["women/his photo.jpg", "women/b.wav"])
    for texts in ([], ["a.png", "She is here."], ["she"], [["a.png", "b.png"]]):
        assert not are_files(texts)


def test_small_groups_and_the_background():
    values = ("f",) * 3 + ("m",) * 2 + ("x",) + (None,) * 4
    numbers, names, small = Attribute("a", values).divided(2)
    assert (names, small) == (["f", "m"], {"x": 1})
    assert numbers.tolist() == [0, 0, 0, 1, 1, -1, -1, -1, -1, -1]
    # a single group is compared with those of none
    assert Attribute("a", values).divided(3)[1] == ["f", "none"]


def test_no_rows_have_no_groups():
    """As of a split without an entity of the asked type."""
    groups, names, small = Attribute("entities=gender", ()).divided(20)
    assert (groups.dtype.kind, groups.shape, names, small) == ("i", (0,), [], {})


def test_who_is_called_none_in_a_column_is_a_group():
    column = Attribute("column=religion", ("none",) * 3 + ("some",) * 2)
    assert column.divided(2)[1:] == (["none", "some"], {})
    assert column.divided(3)[1:] == (["none"], {"some": 2})
    both = crossed([Attribute("terms=a", ("f", "m", "f", None, "f")), column])
    assert both.values == ("f & none", "m & none", "f & none", None, "f & some")


def test_intersections():
    both = crossed([Attribute("terms=a", ("f", "m", None)), Attribute("column=b", ("x", "y", "x"))])
    assert both == Attribute("terms=a & column=b", ("f & x", "m & y", None))


@pytest.mark.parametrize("spec", ["gender", "columns=a", "terms=", "names=3"])
def test_what_is_no_way_to_find_groups(spec):
    with pytest.raises(UserError, match="expected column=NAME"):
        kind_of(spec)


def test_a_column_of_a_file_by_id_or_in_order(tmp_path):
    answers = [{"id": "test:1"}, {"id": "test:0"}]
    file = tmp_path / "who.jsonl"
    file.write_text("".join(json.dumps({"id": f"test:{n}", "age": n + 20}) + "\n" for n in range(3)))
    assert of_column("column=age", "age", None, answers, file).values == ("21", "20")
    with pytest.raises(DataError, match="1 of 2 examples have no row, test:7 for one"):
        of_column("column=age", "age", None, [*answers[:1], {"id": "test:7"}], file)
    csv = tmp_path / "who.csv"
    csv.write_text("age\nold\nyoung\n")
    assert of_column("column=age", "age", None, answers, csv).values == ("old", "young")
    for name, rows in (
        ("gaps.csv", "id,age\ntest:0,\ntest:1,old\n"),
        ("gaps.jsonl", '{"id": "test:0", "age": null}\n{"id": "test:1", "age": "old"}\n'),
    ):
        (tmp_path / name).write_text(rows)
        assert of_column("column=age", "age", None, answers, tmp_path / name).values == ("old", "(none)")
    with pytest.raises(DataError, match="2 rows for 1 examples"):
        of_column("column=age", "age", None, answers[:1], csv)
    with pytest.raises(DataError, match="there is no column 'sex'"):
        of_column("column=sex", "sex", None, answers, csv)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            '{"id": "test:1", "age": "old"}\n{"age": "young"}\n',
            "who.jsonl:2: has no id, and other rows have. Give each",
        ),
        ('{"id": "a", "age": "old"}\n{"id": "a", "age": "new"}\n', "who.jsonl:2: a is 'new', and 'old' in a row above"),
    ],
)
def test_rows_of_which_it_is_not_clear_whose_they_are(tmp_path, rows, message):
    file = tmp_path / "who.jsonl"
    file.write_text(rows)
    with pytest.raises(DataError, match=message):
        of_column("column=age", "age", None, [{"id": "test:0"}, {"id": "test:1"}], file)
