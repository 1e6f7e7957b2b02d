"""Controls that know no model."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from peftlab.use.auditing.blind import words

CLUSTERS = np.arange(300)


def texts(seed: int, members: str, others: str) -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(seed)
    member = random.random(300) < 0.5
    return [" ".join(random.choice((members if one else others).split(), 6)) for one in member], member


@pytest.mark.exhaustive
def test_splits_that_differ_in_their_words_are_told_apart_and_others_are_not():
    differ = texts(0, "rate bank loan gold rose", "rate bank goal ball rose")
    assert roc_auc_score(differ[1], words(*differ, CLUSTERS)) > 0.9
    areas = [
        roc_auc_score(same[1], words(*same, CLUSTERS))
        for seed in range(20)
        for same in [texts(seed, *["a1 b2 c3"] * 2)]
    ]
    assert 0.45 < np.mean(areas) < 0.51  # what one fold has too many of, the others lack


def test_texts_without_spaces_are_told_apart_by_their_characters():
    random, member = np.random.default_rng(0), np.arange(300) % 2 == 0
    written = ["".join(random.choice(list("银行贷款利率" if one else "足球比赛进球"), 6)) for one in member]
    assert roc_auc_score(member, words(written, member, CLUSTERS)) > 0.9


def test_a_text_is_judged_by_other_clusters():
    member = np.arange(60) < 30
    alone = [f"word{n}" for n in range(30)] * 2  # each word once in a member, once in another of the same cluster
    found = words(alone, member, np.arange(60) % 30)
    assert np.ptp(found) < 0.5
    assert np.isnan(words(alone, member, np.zeros(60, int))).all()
