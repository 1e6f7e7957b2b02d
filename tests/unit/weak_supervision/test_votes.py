"""Votes of functions, written in Python or as rules, on texts and on words."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.errors import DataError, UserError
from peftlab.weak_supervision import labelling_function
from peftlab.weak_supervision.functions import Unlabelled, functions_in
from peftlab.weak_supervision.rules import rules_in
from peftlab.weak_supervision.votes import ABSTAIN, cast


def function(vote, name="own"):
    return labelling_function(name)(vote)


def sentence(text: str) -> Unlabelled:
    return Unlabelled(text, words=tuple(text.split()), place="a.jsonl:1")


TEXTS = [Unlabelled(text, place=f"a.csv:{n + 2}") for n, text in enumerate(["I love it", "bad", "so so"])]


def test_the_decorator_with_and_without_a_name():
    @labelling_function
    def shouting(text):
        return "angry" if text.text.isupper() else None

    assert shouting.name == "shouting"
    assert shouting(Unlabelled("NO")) == "angry"
    assert function(lambda text: None, "thanks").name == "thanks"


def test_votes_of_texts():
    good, bad = (
        function(lambda text: "pos" if "love" in text.text else None, "good"),
        function(lambda text: "neg", "bad"),
    )
    votes = cast([good, bad], TEXTS, None, words=False)
    assert (votes.names, votes.labels) == (["good", "bad"], ["neg", "pos"])
    assert votes.table.tolist() == [[1, 0], [ABSTAIN, 0], [ABSTAIN, 0]]
    assert cast([good], TEXTS, ["pos", "neutral"], words=False).table.tolist() == [[0], [ABSTAIN], [ABSTAIN]]


@pytest.mark.parametrize(
    ("functions", "labels", "message"),
    [
        ([function(lambda text: 1)], None, "a.csv:2: 'own' votes 1; expected a label as a text"),
        ([function(lambda text: "posi")], ["pos", "neg"], "'posi', which is none of pos, neg. Did you mean 'pos'?"),
        ([function(lambda text: "a"), function(lambda text: "b")], None, "two are called 'own'"),
        ([function(lambda text: text.nothing)], None, "a.csv:2: the labelling function 'own' fails: AttributeError"),
    ],
)
def test_what_is_no_vote(functions, labels, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        cast(functions, TEXTS, labels, words=False)


def test_votes_of_words():
    found = function(lambda text: [(3, 4, "LOC"), (0, 2, "PER")] if "Marie" in text.text else None)
    outside = function(lambda text: [(2, 3, "O")], "outside")
    votes = cast([found, outside], [sentence("Marie Curie left Warsaw"), sentence("It rained today")], None, words=True)
    assert votes.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert votes.table[:, 0].tolist() == [3, 4, ABSTAIN, 1, *[ABSTAIN] * 3]
    assert votes.table[:, 1].tolist() == [ABSTAIN, ABSTAIN, 0, ABSTAIN, ABSTAIN, ABSTAIN, 0]
    assert votes.ends.tolist() == [0, 4, 7]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 5, "LOC")], "of 3 words a span is"),
        ([(1, 1, "LOC")], "the word at end no longer belongs to it"),
        ([(0, 2, "LOC"), (1, 3, "LOC")], "two of its spans share the word 'b'"),
        ("LOC", "expected a list of"),
    ],
)
def test_what_is_no_span(spans, message):
    with pytest.raises(DataError, match=message):
        cast([function(lambda text: spans)], [sentence("a b c")], None, words=True)


class TestFunctionsIn:
    def test_a_module_of_the_current_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "rules_of_test_votes.py").write_text(
            "from peftlab.weak_supervision import labelling_function\n"
            "@labelling_function\ndef one(text):\n    return 'a'\n"
            "two = labelling_function('second')(lambda text: None)\nthree = 3\n"
        )
        assert [each.name for each in functions_in(tmp_path / "rules_of_test_votes.py")] == ["one", "second"]

    def test_no_other_module(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "folder").mkdir()
        for name, message in (
            ("folder/mine.py", "its code would be run, so it must be yours"),
            ("no-name.py", "its code would be run"),
            ("missing.py", "there is no such file"),
            ("json.py", "an installed module is called 'json' too"),
            ("empty_of_test_votes.py", "it has no labelling function"),
            ("failing_of_test_votes.py", "cannot be imported: NameError"),
        ):
            if name != "missing.py":
                (tmp_path / name).write_text("nothing" if "failing" in name else "")
            with pytest.raises(UserError, match=message):
                functions_in((tmp_path / name).relative_to(tmp_path))


class TestRules:
    @pytest.fixture
    def rules(self, tmp_path):
        def read(content, asked=None):
            (tmp_path / "rules.yaml").write_text(content)
            return rules_in(tmp_path / "rules.yaml", lambda *run: (asked.append(run), function(lambda text: None))[1])

        return read

    def test_keywords_are_whole_words_in_any_case(self, rules):
        (rule,) = rules("positive: {any: [great, thank you], unless: [not]}")
        said = ["A GREAT day", "greatest", "thank\n you!", "not great", "thankyou"]
        assert rule.name == "positive.any"
        assert list(rule.votes([Unlabelled(text) for text in said])) == ["positive", None, "positive", None, None]

    def test_words_that_are_written_together_are_found_too(self, rules):
        (rule,) = rules("LOC: {any: [北京, O'Brien's, กรุงเทพ, ':)']}")
        said = ["我在北京工作", "at O'Brien's", "O'Brien'sx", "ไปกรุงเทพแล้ว", "good:)", "北 大", "at OBrien's"]
        assert list(rule.votes([Unlabelled(text) for text in said])) == ["LOC", "LOC", None, "LOC", "LOC", None, None]
        divided = [sentence("我 在 北 京 工 作"), sentence("at O'Brien 's pub"), sentence("北京")]
        assert list(rule.votes(divided)) == [[(2, 4, "LOC")], [(1, 3, "LOC")], [(0, 1, "LOC")]]

    def test_every_kind_is_a_function(self, rules, tmp_path):
        (tmp_path / "names.txt").write_text("\ufeffAnna\nBob Roe\n\n")
        asked = []
        functions = rules(
            "a:\n  - {name: both, any: [x], regex: 'y+', case: true}\n  - {name: listed, file: names.txt}\n"
            "runs: {mine: {run: 3f9c, threshold: 0.9}}\n",
            asked,
        )
        assert [each.name for each in functions] == ["both.any", "both.regex", "listed", "own"]
        assert asked == [("mine", "3f9c", 0.9)]
        assert list(functions[1].votes([Unlabelled("yy"), Unlabelled("Y")])) == ["a", None]
        assert list(functions[2].votes([Unlabelled("ask bob  roe")])) == ["a"]

    def test_numbers_that_are_what_is_written(self, rules):
        functions = rules("2: {any: [911, 5.5, '007', -1]}\nruns: {mine: {run: 3f9c, threshold: .90}}", [])
        said = ["call 911", "5.5 %", "bond 007", "7", "9"]
        assert list(functions[0].votes([Unlabelled(text) for text in said])) == ["2", "2", "2", None, None]

    def test_both_texts_of_a_pair(self, rules):
        (rule,) = rules("same: {any: [cat]}")
        assert list(rule.votes([Unlabelled("a dog", "a cat"), Unlabelled("a dog", "it")])) == ["same", None]

    def test_matches_of_words_are_spans(self, rules):
        (rule,) = rules("LOC: {any: [New York, York, '-']}")
        texts = [sentence("from New York - and York"), sentence("Yorkshire"), sentence("New-York")]
        assert list(rule.votes(texts)) == [[(1, 3, "LOC"), (3, 4, "LOC"), (5, 6, "LOC")], None, None]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a: {any: [no]}", "a.any.0 = False: is true or false to YAML: put the word in quotes"),
            ("no: {any: [a]}", "a label is true or false to YAML"),
            ("a:\n  any: [b, 007]", "rules.yaml:2: YAML reads 007 as the number 7: put it in quotes"),
            ("a: {any: [b], unless: [9:30]}", "YAML reads 9:30 as the number 570"),
            ("1.50: {any: [b]}", "YAML reads 1.50 as the number 1.5"),
            ("a: {}", "says nothing: give it any, file or regex"),
            ("a: {any: []}", "a.any"),
            ("a: {any: [' ']}", "a.any.0 = ' ': is empty"),
            ("a: {regex: '('}", "a.regex: is no regular expression"),
            ("a: {regex: 'x*'}", "a.regex: matches the empty text"),
            ("a: {words: [b]}", "a.words'. Allowed: any, case, file"),
            ("a: {file: none.txt}", "none.txt cannot be read"),
            ("[a]", "expected rules by label"),
            ("runs: [3f9c]", "runs: expected runs by name"),
        ],
    )
    def test_malformed_rules(self, rules, content, message):
        with pytest.raises(UserError, match=message.replace("*", r"\*").replace("(", r"\(")):
            rules(content)


def test_the_counts_of_votes():
    votes = cast([function(lambda text: "a", "x"), function(lambda text: "b", "y")], TEXTS, None, words=False)
    assert np.array_equal(votes.counts(), [[1, 1]] * 3)
