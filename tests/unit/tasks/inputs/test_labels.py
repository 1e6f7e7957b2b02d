from __future__ import annotations

import json
import logging

import pytest

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.labels import check_declared, check_found, nearest
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.ner import Ner
from peftlab.tasks.task import Selection


def texts(*labels: str) -> list[Text]:
    return [Text(f"train:{n}", "a", label, None, "f.csv", n + 2) for n, label in enumerate(labels)]


def learnt(labels, declared=None):
    task = Classification(name="c", selection=Selection(metric="macro_f1", mode="max"))
    task.learn_labels({"train": texts(*labels)}, declared)
    return task.labels


def types_learnt(tags, declared=None):
    task = Ner(name="n", selection=Selection(metric="entity_f1", mode="max"))
    sentence = Sentence("train:0", ["w"] * len(tags), list(tags), "f.txt", list(range(1, len(tags) + 1)))
    task.learn_labels({"train": [sentence]}, declared)
    return task.types


class TestDeclared:
    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (["PER", "PER", "LOC"], "'PER' is listed twice"),
            ([""], "name 1 of 1 is empty"),
            (["a", " "], "name 2 of 2 is empty"),
            (["a", "\u200b\xad"], "name 2 of 2 is empty"),
            (["a\0", "a"], r"'a' U\+0000 holds a character that no name may have"),
            (["a\ud83d", "a"], r"'a' U\+D83D holds"),
            (["a\nb", "a"], r"'a' U\+000A 'b' holds"),
        ],
    )
    def test_what_no_name_is(self, labels, message):
        with pytest.raises(ConfigError, match=message):
            check_declared(labels)

    @pytest.mark.parametrize(
        ("declared", "shown"),
        [
            ("pos\u200b", r"'pos' U\+200B looks like 'pos'"),
            ("po\xads", r"'po' U\+00AD 's' looks like 'pos'"),
            ("pos ", r"'pos' U\+0020 looks like 'pos'"),
            ("\u2060pos", r"U\+2060 'pos' looks like 'pos'"),
            ("pos\ufe0f", r"'pos' U\+FE0F looks like 'pos'"),
        ],
    )
    def test_what_looks_like_one_of_the_data_and_is_another(self, declared, shown):
        with pytest.raises(ConfigError, match=shown):
            learnt(["pos", "neg"], ["pos", "neg", declared])

    def test_composed_and_decomposed(self):
        with pytest.raises(ConfigError, match=r"'cafe' U\+0301 looks like 'café', which the data has"):
            learnt(["café", "b"], ["cafe\u0301", "café", "b"])

    def test_a_run_with_such_labels_is_loaded_whatever_it_is_used_on(self):
        labels = ["pos", "pos\u200b"]
        assert learnt(labels, labels) == labels
        assert learnt([], labels) == labels

    def test_the_tag_outside_entities_is_no_type(self):
        with pytest.raises(ConfigError, match="'O' is the tag outside entities"):
            types_learnt(["B-PER"], ["O", "PER"])
        assert types_learnt(["B-PER"], ["PER", "o"]) == ["PER", "o"]


class TestFound:
    @pytest.mark.parametrize(
        ("labels", "shown"),
        [
            (["pos", "pos\u200b"], "'pos', 'pos' U+200B"),
            (["a\xadb", "ab"], "'ab', 'a' U+00AD 'b'"),
            (["é", "e\u0301"], "'e' U+0301, 'é'"),
            (["a b", "a\xa0b"], "'a b', 'a' U+00A0 'b'"),
            (["x", "\ufeffx"], "'x', U+FEFF 'x'"),
        ],
    )
    def test_two_that_look_alike_are_told_with_their_numbers(self, caplog, labels, shown):
        assert sorted(learnt(labels)) == sorted(labels)
        (record,) = caplog.records
        assert (record.levelname, record.getMessage()) == (
            "WARNING",
            f"these labels look alike but are distinct: {shown}",
        )

    def test_letter_case_is_told(self, caplog):
        with caplog.at_level(logging.INFO, logger="peftlab"):
            check_found(["a"], ["Pos", "pos", "neg"])
        assert [record.getMessage() for record in caplog.records] == [
            "these labels differ only in letter case but are distinct: Pos, pos"
        ]

    def test_plain_ones_are_not_worth_a_word(self, caplog):
        with caplog.at_level(logging.INFO, logger="peftlab"):
            check_found(["a", "b", "未来", "naïve"], ["a", "b", "未来", "naïve"])
        assert not caplog.records

    @pytest.mark.parametrize("label", ["a\0", "\x07a", "a\tb", "\u200b", "\xad\u200d"])
    def test_what_is_no_name_is_refused_with_file_and_line(self, label):
        with pytest.raises(
            DataError, match=r"^f\.csv:3: the label .*U\+\w{4}.* holds a character that no name may have"
        ):
            learnt(["a", label])

    @pytest.mark.parametrize("tag", ["B-O", "I-O", "B-PER\0", "B-\u200b", "B-a\tb"])
    def test_what_is_no_entity_type_is_refused_with_file_and_line(self, tag):
        with pytest.raises(DataError, match=r"^f\.txt:2: .* is not an entity type"):
            types_learnt(["B-PER", tag])


@pytest.mark.parametrize(
    ("label", "known", "sentence"),
    [
        ("pos\u200b", ["pos"], " It looks like 'pos'."),
        ("pos", ["pos\u200b"], " It looks like 'pos' U+200B."),
        ("yes", ["true", "false"], " Without quotes it is read as true: write \"data.labels=['yes',...]\"."),
        ("True", ["true", "false"], " Without quotes it is read as true: write \"data.labels=['True',...]\"."),
        ("007", ["7", "8"], " Without quotes it is read as 7: write \"data.labels=['007',...]\"."),
        ("12:30", ["750"], " Without quotes it is read as 750: write \"data.labels=['12:30',...]\"."),
        ("~", ["null"], " Without quotes it is read as null: write \"data.labels=['~',...]\"."),
        ("nag", ["neg"], " Did you mean 'neg'?"),
        ("{", ["a"], ""),
        pytest.param("[" * 5000, ["a"], "", id="deep"),
        pytest.param("[&a [1,2,3]," + "*a," * 40_000 + "]", [json.dumps([[1, 2, 3]] * 40_001)], "", id="repeated"),
    ],
)
def test_which_label_may_be_meant(label, known, sentence):
    assert nearest(label, known) == sentence


def test_messages_name_the_file():
    with pytest.raises(DataError, match=r"^f\.txt: the training split has no entity"):
        types_learnt(["O", "O"])
