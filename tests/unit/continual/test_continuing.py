"""What a run that goes on does to its scores: the interval is over documents, where the data names them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from peftlab.continual.continuing import _change
from peftlab.scores.class_scores import ClassScores


class Answering:
    """A model that answers rightly to the examples in `right`, of documents of `size` examples."""

    def __init__(self, right, size):
        self.right, self.size = right, size
        self.run = SimpleNamespace(spec=SimpleNamespace(task=SimpleNamespace(scorer=ClassScores(["a", "b"]))))

    def score(self, config, metric, out):
        out.mkdir()
        answers = [
            {
                "id": f"test:{n}",
                "group": None if self.size is None else f"doc{n // self.size}",
                "gold": "a",
                "predicted": "a" if n in self.right else "b",
            }
            for n in range(40)
        ]
        (out / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers))
        return len(self.right) / 40


def change(size):
    return _change((Answering(range(20), size), Answering(range(30), size)), {}, "accuracy")


@pytest.mark.slow
def test_one_document_that_is_learnt_says_less_than_its_examples():
    alone, together = change(None), change(10)
    assert (alone.before, alone.after) == (together.before, together.after) == (0.5, 0.75)
    assert alone.low == pytest.approx(0.125, abs=0.03)
    assert together.low == 0
    assert together.high > alone.high


def test_a_single_document_has_no_interval():
    assert (change(40).low, change(40).high) == (None, None)
