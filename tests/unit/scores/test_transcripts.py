from __future__ import annotations

import random

import jiwer
import numpy as np
import pytest

from peftlab.scores.of_record import scorer_of
from peftlab.scores.transcripts import Transcripts, distance, edits_of, normaliser_of


def answer(gold: str, predicted: str | None, **more):
    return {"gold": gold, "predicted": predicted, "tokens": 2, "log_probability": -1.0, **more}


def sentence(draw: random.Random, most: int) -> str:
    return " ".join("".join(draw.choice("abc") for _ in range(draw.randrange(1, 4))) for _ in range(most))


def test_edits_are_those_of_jiwer():
    draw = random.Random(0)
    for _ in range(300):
        gold, other = sentence(draw, draw.randrange(1, 9)), sentence(draw, draw.randrange(0, 9))
        theirs = jiwer.process_words(gold, other)
        mine = edits_of(gold.split(), other.split())
        assert mine.errors == theirs.substitutions + theirs.deletions + theirs.insertions
        assert mine.deletions - mine.insertions == len(gold.split()) - len(other.split())
        assert min(mine) >= 0
        characters = jiwer.process_characters(gold, other)
        assert distance(gold, other) == characters.substitutions + characters.deletions + characters.insertions
    assert edits_of([], ["a"]) == (0, 0, 1)
    assert (distance("", "ab"), distance("ab", "")) == (2, 2)


def test_rates_are_those_of_the_whole_split():
    pairs = [("the cat sat", "The cat sat."), ("on the mat today", "in the mat"), ("a b", "c d e f g")]
    scorer = Transcripts("basic")
    scores = scorer.measured([answer(*pair) for pair in pairs])
    normalise = normaliser_of("basic", "words")
    golds, others = ([normalise(text) for text in side] for side in zip(*pairs, strict=True))
    assert scores["wer"] == pytest.approx(jiwer.wer(golds, others))
    without = [[text.replace(" ", "") for text in side] for side in (golds, others)]
    assert scores["cer"] == pytest.approx(jiwer.cer(*without))
    assert scores["exact_match"] == pytest.approx(1 / 3)
    assert scores["wer/insertions"] == pytest.approx(3 / 9)
    assert sum(scores[f"wer/{kind}"] for kind in ("substitutions", "deletions", "insertions")) == pytest.approx(
        scores["wer"]
    )
    totals = np.stack([scorer.total([answer(*pair)]) for pair in pairs])
    assert scorer.scores(totals.sum(0)) == scorer.scores(scorer.total([answer(*pair) for pair in pairs]))


def test_a_normaliser_changes_the_rate_and_the_name():
    pair = answer("I can't pay twenty dollars, Mr. Brown!", "I cannot pay $20 mister brown")
    rates = {kind: Transcripts(kind).measured([pair])["wer"] for kind in ("none", "basic", "whisper_english")}
    assert rates["whisper_english"] < rates["basic"] < rates["none"]
    names = {Transcripts(kind).name for kind in rates}
    assert len(names) == 3
    for kind in rates:
        again = scorer_of(Transcripts(kind).name, [])
        assert isinstance(again, Transcripts)
        assert again.normaliser == kind


def test_chinese_is_counted_by_characters():
    scores = Transcripts("basic", "characters").measured([answer("今天天气很好。", "今天天气不好")])
    assert scores["wer"] == scores["cer"] == pytest.approx(1 / 6)


def test_answers_without_a_transcript_have_a_perplexity_alone():
    scorer = Transcripts()
    assert scorer.measured([answer("a", None)]).keys() == {"perplexity"}
    with pytest.raises(ValueError, match="no transcript"):
        scorer.counts(answer("a", 3))
