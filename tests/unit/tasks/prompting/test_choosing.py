"""Templates are chosen by labelled examples that are left out, or not described yet."""

from __future__ import annotations

import math

import numpy as np
import pytest

from peftlab.tasks.prompting.choosing import Quality, best, qualities, recorded

EXAMPLES = list(range(12))


def judge_of(probabilities, seen):
    """Return a judge that gives each label a template's probability, and notes which examples it was shown."""

    def judge(template, block, rest):
        seen.append((template, tuple(block), tuple(rest)))
        p = probabilities[template]
        return np.full(len(block), p > 0.5), np.full(len(block), math.log(p))

    return judge


@pytest.mark.parametrize("how", ["cv", "mdl"])
def test_each_label_is_judged_once_a_template_and_never_shown_to_itself(how):
    seen = []
    found = qualities(judge_of([0.25, 0.75], seen), 2, EXAMPLES, how, seed=3)
    for template, quality in enumerate(found):
        judged = [example for number, block, _ in seen if number == template for example in block]
        assert sorted(judged) == EXAMPLES
        assert quality.bits == pytest.approx(12 * -math.log2([0.25, 0.75][template]))
        assert quality.accuracy == template
    assert all(not {*block} & {*rest} for _, block, rest in seen)
    sizes = [len(rest) for number, _, rest in seen if number == 0]
    blocks = [len(block) for number, block, _ in seen if number == 0]
    assert sizes == ([12 - size for size in blocks] if how == "cv" else np.cumsum([0, *blocks[:-1]]).tolist())
    assert best(found, how) == 1


def test_accuracy_and_description_may_choose_otherwise():
    found = [Quality(0.8, 40.0), Quality(0.9, 50.0), Quality(0.9, 45.0)]
    assert best(found, "cv") == 2  # the shorter description of two that are as accurate
    assert best(found, "mdl") == 0
    assert recorded(found[:1], ["{text} {answer}"], 12) == {
        "by": [{"template": "{text} {answer}", "accuracy": 0.8, "bits": 40.0}],
        "labels": 12,
    }
