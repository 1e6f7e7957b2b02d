"""Flips of answers, with the test that suits grouped and single examples."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab.scores.class_scores import ClassScores
from peftlab.scores.paired import mcnemar
from peftlab.use.differing.flips import flips
from peftlab.use.robustness.victim import Judged


def judged(number, gold, predicted, loss):
    answer = {"id": f"test:{number}", "input": "text", "gold": gold, "predicted": predicted}
    return Judged(answer, loss, gold == predicted)


def compared(groups):
    pairs = []
    for number in range(20):
        before, after = "a" if number % 2 else "b", "a" if number < 15 else "b"
        pairs.append((judged(number, "a", before, 1.0), judged(number, "a", after, 1.0 + number / 10)))
    examples = [SimpleNamespace(id=f"test:{n}", group=f"g{n // 4}" if groups else None) for n in range(20)]
    return flips(ClassScores(["a", "b"]), "accuracy", examples, pairs)


def test_single_examples():
    found = compared(groups=False)
    assert (found.lost, found.won, found.units) == (3, 8, "examples")
    assert found.p == mcnemar(3, 8)
    assert found.difference == pytest.approx(found.after - found.before) == pytest.approx(0.25)
    assert found.low < 0.25 < found.high
    assert [one.id for one in found.changed[:2]] == ["test:19", "test:18"]
    assert found.changed[0].flip == "lost"
    assert found.changed[0].loss == pytest.approx(1.9)


def test_examples_of_a_group_flip_together():
    found = compared(groups=True)
    assert (found.lost, found.won, found.units) == (3, 8, "groups")
    assert "randomisation" in found.test
