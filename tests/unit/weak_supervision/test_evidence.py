"""How often functions are right, and how surely."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.report.statistics.bootstrap import jackknife_interval
from peftlab.weak_supervision.evidence import judged
from peftlab.weak_supervision.votes import ABSTAIN, Votes


def test_words_of_a_sentence_do_not_count_as_so_many_witnesses():
    """Eight sentences of ten words, right or wrong as a whole, say as much as eight texts, whatever else there is."""
    right = np.array([1, 1, 0, 1, 1, 1, 0, 1])
    said = np.append(np.repeat(right, 10), np.full(5, ABSTAIN))
    votes = Votes(said[:, None], ["function"], ["O", "B-A"], np.array([*[10] * 8, 5]))
    (found,) = judged(votes, np.ones(85, int))
    of_texts = jackknife_interval(right.astype(float), bounded=True)
    assert (found["judged"], found["right"], found["share"]) == (80, 60, 0.75)
    assert (found["low"], found["high"]) == pytest.approx((of_texts.low, of_texts.high))
    (of_text,) = judged(Votes(right[:, None], ["function"], ["a", "b"]), np.ones(8, int))
    assert (of_text["low"], of_text["high"]) == pytest.approx((of_texts.low, of_texts.high))
