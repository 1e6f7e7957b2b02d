"""Scores of texts are those of sacreBLEU and rouge-score, from counts that add up."""

from __future__ import annotations

import math
import random
from importlib import util

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from peftlab.errors import ConfigError
from peftlab.scores.of_record import scorer_of
from peftlab.scores.scorer import Scorer
from peftlab.scores.written_texts import AnswerPerplexity, WrittenTexts, check_extra

TOKENIZERS = {"en": "13a", "zh": "zh", "ja": "char", "other": "13a"}
WORDS = [
    *["the", "a", "river", "flows", "through", "rome", "Rome,", "paris.", "naïve", "été", "don't", "U.S.", "1,000"],
    *["(x)", "...", "\n", "of", "&", "&amp;", "北京", "大学", "東京", "ですか", "ファイル", "。", "《", "GPT", "2024"],
    *["년", "한국어", "привет", "мир", "🎉"],
]


def answer(predicted, gold, log=-1.5, tokens=3, written=4, stopped=True):
    return {
        "gold": gold,
        "predicted": predicted,
        "log_probability": log,
        "tokens": tokens,
        "written_tokens": written,
        "stopped": stopped,
    }


def texts(draw):
    """Return a text and its gold, which may share words, be equal or empty."""
    gold = [draw.choice(WORDS) for _ in range(draw.choice([0, 1, 3, 12]))]
    written = [draw.choice(WORDS) if draw.random() < 0.4 else word for word in gold]
    joined = draw.choice(["", " "]).join
    return joined(written[: draw.choice([0, 2, 20, 20])]), joined(gold)


@pytest.mark.slow
@pytest.mark.parametrize("cases", [100, pytest.param(1000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("language", TOKENIZERS)
def test_scores_of_a_corpus_are_those_of_sacrebleu_and_rouge_score(language, cases):
    scorer, chrf, bleu = WrittenTexts(language), CHRF(), BLEU(tokenize=TOKENIZERS[language], force=True)
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for case in range(cases):
        draw = random.Random(case)
        pairs = [texts(draw) for _ in range(draw.choice([1, 2, 8]))]
        written, gold = ([pair[side] for pair in pairs] for side in (0, 1))
        scores = scorer.scores(scorer.total([answer(*pair) for pair in pairs]))
        for name, metric in (("chrf", chrf), ("bleu", bleu)):
            assert scores[name] == float(np.float32(metric.corpus_score(written, [gold]).score)), (case, name, pairs)
        if language == "en":
            of_each = [rouge.score(one, other) for other, one in pairs]
            for name in ("rouge1", "rouge2", "rougeL"):
                assert scores[name] == pytest.approx(np.mean([one[name].fmeasure for one in of_each]), abs=1e-7)


def test_counts_add_up_in_any_order_and_many_sums_are_scored_as_one():
    draw, scorer = random.Random(1), WrittenTexts("zh")
    answers = [answer(*texts(draw), log=-draw.random() * 20, stopped=draw.random() < 0.5) for _ in range(60)]
    total = scorer.total(answers)
    shuffled = draw.sample(answers, 60)
    parts = [scorer.total(shuffled[:7]), scorer.total(shuffled[7:50]), scorer.total(shuffled[50:])]
    assert (sum(parts) == total).all()
    batched, looped = (
        of(np.stack([total, *parts])) for of in (scorer.batched, lambda all: Scorer.batched(scorer, all))
    )
    assert list(batched) == list(scorer.directions)
    for name in batched:
        assert batched[name] == pytest.approx(looped[name], rel=1e-6)


def test_the_signatures_are_those_of_sacrebleu():
    for language, words in TOKENIZERS.items():
        for metric in (CHRF(), BLEU(tokenize=words)):
            metric.corpus_score(["a"], [["a"]])
            assert str(metric.get_signature()) in WrittenTexts(language).name


def test_a_scorer_is_made_again_from_its_name_even_of_another_version():
    for language in TOKENIZERS:
        name = WrittenTexts(language).name
        for recorded in (name, name.replace("version:", "version:1.")):
            again = scorer_of(recorded, [])
            assert isinstance(again, WrittenTexts)
            assert (again.name, again.language) == (recorded, language)
    assert type(scorer_of("answer tokens", [])) is AnswerPerplexity


def test_chinese_and_japanese_have_words_and_latin_letters_with_accents_too():
    same, other = [answer("北京大学在北京", "北京大学在北京")], [answer("東京", "北京")]
    for language, none in (("zh", 0), ("ja", 0), ("other", 0), ("en", 0)):
        scorer = WrittenTexts(language)
        found = scorer.scores(scorer.total(same))["rouge1"]
        assert found == (0 if language == "en" else 1)  # rouge-score knows no other letters
        partly = scorer.scores(scorer.total(other))["rouge1"]
        assert partly == (0.5 if language in ("zh", "ja") else none)
    scorer = WrittenTexts("other")
    assert scorer.scores(scorer.total([answer("un été", "un ete")]))["rouge1"] == 0.5


def test_perplexity_exact_match_length_and_stops():
    answers = [
        answer(" a\n b ", "a b", log=-2.0, tokens=2, written=3),
        answer("A b", "a b", log=-4.0, tokens=4, written=8, stopped=False),
    ]
    scorer = WrittenTexts()
    details = scorer.details(scorer.total(answers))
    assert details["perplexity"] == pytest.approx(math.e)
    assert (details["exact_match"], details["stop_rate"], details["mean_length"]) == (0.5, 0.5, 5.5)
    alone = AnswerPerplexity()
    assert alone.scores(alone.total(answers)) == {"perplexity": details["perplexity"]}
    assert "perplexity   2.7183" in alone.report(alone.total(answers))
    diverged = answer(None, "a", log=math.nan)
    assert math.isnan(alone.scores(alone.total([diverged]))["perplexity"])


def test_perplexities_of_answers_and_of_all_tokens_do_not_go_by_one_name():
    kinds = [AnswerPerplexity, lambda of: WrittenTexts("zh", of)]
    names = [kind(of).name for kind in kinds for of in ("answer tokens", "all tokens")]
    assert len(set(names)) == 4
    assert [scorer_of(name, []).of for name in names] == ["answer tokens", "all tokens"] * 2


def test_without_texts_there_is_a_perplexity_alone():
    scorer = WrittenTexts()
    answers = [answer(None, "a b", written=None, stopped=None)]
    assert list(scorer.details(scorer.total(answers))) == ["perplexity"]
    assert list(scorer.scores(scorer.total([]))) == list(scorer.directions)
    assert list(scorer.scores(scorer.total([*answers, answer("a", "b")]))) == list(scorer.directions)


def test_what_is_no_answer_is_refused():
    scorer = WrittenTexts()
    for wrong in (answer("a", None), answer("a", "a", log=0.5), answer("a", "a", log=None), answer(7, "a")):
        with pytest.raises(ValueError, match=r"no gold|no logarithm|no text"):
            scorer.counts(wrong)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "rouge_score" else find(name))
    with pytest.raises(ConfigError, match=r"need rouge_score: pip install 'peftlab\[generation\]'"):
        check_extra()


def test_without_a_token_of_gold_there_is_no_perplexity():
    """It would be 1, the best that there is."""
    for scorer in (AnswerPerplexity(), WrittenTexts("en")):
        assert math.isnan(scorer.scores(np.zeros(scorer.width))["perplexity"])
