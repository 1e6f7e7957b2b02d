"""Slices and the substitution of words on real tasks, with a model that knows one word."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from peftlab.commands.robustness import WHOLE
from peftlab.composing.compose import conf_dir
from peftlab.errors import UserError
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.use.predictor import Predictor
from peftlab.use.robustness.greedy import Greedy
from peftlab.use.robustness.perturbations import (
    OnWords,
    Settings,
    Slice,
    _in_case_of,
    _made,
    _option,
    _substitutes,
    _view,
)
from peftlab.use.robustness.victim import Victim

WORDS, TAGS = ["Ada", "Lovelace", "left", "New", "York", "."], ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]


@pytest.fixture
def victim(pretrained, processor, classification):
    task = classification()
    return Victim(Predictor(model=pretrained.backbone(task), task=task, processor=processor, max_tokens=32))


def slice_of(name: str) -> Slice:
    return Slice(name, _option(name, {"share": 1.0, "alpha": 0.5, "mentions": True}), 0.5, seed=0)


def test_a_slice_edits_an_example_in_the_same_way_whatever_else_is_in_the_sample(victim, monkeypatch):
    texts = [Text(str(n), f"nothing happened {word} yesterday", "pos") for n, word in enumerate(("today", "there"))]
    seen = []
    answers = victim.judged
    monkeypatch.setattr(victim, "judged", lambda examples: seen.append(examples) or answers(examples))
    perturbed = slice_of("typo").perturbed(victim, texts)
    assert (perturbed.changed, perturbed.details) == (2, {"strength": 0.5})
    slice_of("typo").perturbed(victim, texts[1:])
    assert seen[0][1] == seen[1][0] != texts[1]
    assert [text.label for text in seen[0]] == ["pos", "pos"]


def test_a_slice_of_whole_texts_claims_no_strength(victim):
    run = SimpleNamespace(predictor=victim.predictor, processor=victim.predictor.processor)
    text = Text("0", "he left and she stayed there", "pos")
    claimed = {}
    for name in ("counterfactual", "delete"):
        made = _made(name, run, [text], Settings(strength=0.5))
        claimed[name] = made.perturbed(victim, [text]).details
    assert claimed == {"counterfactual": {}, "delete": {"strength": 0.5}}


def test_the_slices_of_whole_texts_are_those_without_a_share():
    options = [file.stem for file in (conf_dir() / "augment").glob("*.yaml")]
    assert sorted(name for name in options if not hasattr(_option(name, {}), "alpha")) == sorted(WHOLE)


def test_a_slice_that_changes_nothing_or_nothing_that_the_model_sees_is_an_error(victim):
    texts = [Text("0", "nothing happened", "pos")]
    with pytest.raises(UserError, match="case: the model's tokenizer makes no difference"):
        slice_of("case").perturbed(victim, texts)
    with pytest.raises(UserError, match="typo: none of these 1 examples has a word of at least four letters"):
        slice_of("typo").perturbed(victim, [Text("0", "a b c", "pos")])


def test_a_sentence_and_a_pair_are_made_with_other_words(ner, classification):
    words, free, make = _view(ner(), Sentence("0", WORDS, TAGS))
    assert (words, free) == (WORDS, [2, 5])
    assert make(words) == Sentence("0", WORDS, TAGS)
    assert make([*WORDS[:2], "quit", *WORDS[3:]]).words[2] == "quit"
    shorter = make([*WORDS[:2], None, *WORDS[3:]])
    assert (shorter.words, shorter.tags) == ([*WORDS[:2], *WORDS[3:]], [*TAGS[:2], *TAGS[3:]])
    words, free, make = _view(classification(), Text("1", "One day.", "pos", pair="Two"))
    assert (words, free) == (["One", "day", ".", "Two"], [0, 1, 2, 3])
    assert make(["A", "day", ".", None]) == Text("1", "A day.", "pos", pair="")


def test_words_are_replaced_until_the_answer_is_wrong(victim):
    """The model says pos to all that it cannot tell, and neg once `hired` is in the text."""
    model = victim.predictor.model
    (token,) = victim.predictor.processor.tokenizer("hired", add_special_tokens=False)["input_ids"]

    def by_rule(_module, _arguments, inputs, outputs):
        has = (inputs["input_ids"] == token).any(1).float()
        outputs.logits = torch.stack([4 * has - 1, 1 - 4 * has], 1)
        return outputs

    model.register_forward_hook(by_rule, with_kwargs=True)
    examples = [Text("0", "nothing happened today", "pos"), Text("1", "they hired", "pos"), Text("2", "paris", "pos")]
    substitutes = {"happened": ["read", "hired", "moved"], "nothing": ["the"]}
    attack = OnWords(Greedy(), lambda word: substitutes.get(word, []))
    perturbed = attack.perturbed(victim, examples)
    assert [judged.right for judged in perturbed.judged] == [False, False, True]
    assert perturbed.judged[0].answer["input"] == "nothing hired today"
    assert perturbed.changed == 1
    assert (perturbed.details["attacked"], perturbed.details["success_rate"]) == (2, 0.5)
    assert perturbed.details["most_queries"] == victim.queries - 2


def test_a_substitute_has_the_case_of_the_word():
    assert [_in_case_of(word, "other") for word in ("word", "Word", "WORD", "A")] == [
        "other",
        "Other",
        "OTHER",
        "Other",
    ]


def test_an_attack_without_a_substitute_is_an_error_and_not_a_model_that_nothing_breaks(victim):
    attack = OnWords(Greedy(), lambda word: [])
    with pytest.raises(UserError, match="greedy: none of these 1 examples has a word that a substitute is known for"):
        attack.perturbed(victim, [Text("0", "paris", "pos")])


def test_an_attack_on_answers_that_are_all_wrong_is_an_error_and_not_a_model_that_nothing_breaks(victim, monkeypatch):
    """As the numbers of a regression are, which are never quite right."""
    answers = victim.judged
    monkeypatch.setattr(victim, "judged", lambda those: [replace(one, right=False) for one in answers(those)])
    attack = OnWords(Greedy(), lambda word: ["rome"])
    with pytest.raises(UserError, match="greedy: none of these 1 examples is answered rightly"):
        attack.perturbed(victim, [Text("0", "paris", "pos")])


def test_a_chinese_character_is_replaced_by_another_and_a_letter_by_none():
    names = ["\u597d", "\u574f", "x", "y", "good", "fine"]
    tokenizer = SimpleNamespace(get_vocab=lambda: {name: n for n, name in enumerate(names)}, all_special_tokens=[])
    table = torch.nn.Embedding.from_pretrained(torch.eye(3).repeat_interleave(2, 0) + 0.01)
    model = SimpleNamespace(get_input_embeddings=lambda: table)
    run = SimpleNamespace(predictor=SimpleNamespace(model=model), tokenizer=tokenizer)
    of = _substitutes({"\u597d", "x", "good"}, run, ["neighbour"])
    assert [of(word)[0] for word in ("\u597d", "good")] == ["\u574f", "fine"]
    assert {*of("x")} == {"good", "fine"}
