from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from peftlab.scores.class_scores import ClassScores
from peftlab.scores.confusion import ClassRow, class_table, report_text
from peftlab.scores.entity_scores import EntityScores

ROWS = [
    ClassRow(name="a", precision=0.5, recall=1.0, f1=2 / 3, support=1, predicted=2),
    ClassRow(name="longer name", precision=1.0, recall=0.5, f1=2 / 3, support=2, predicted=1),
]


def test_a_table_for_loggers():
    assert class_table(ROWS, "label") == (
        ["label", "precision", "recall", "f1", "support", "predicted"],
        [["a", 0.5, 1.0, 2 / 3, 1, 2], ["longer name", 1.0, 0.5, 2 / 3, 2, 1]],
    )


def test_a_table_for_people():
    assert report_text(ROWS, {"macro": (0.75, 0.75, 2 / 3)}) == (
        "             precision  recall      f1  support\n"
        "a               0.5000  1.0000  0.6667        1\n"
        "longer name     1.0000  0.5000  0.6667        2\n"
        "macro           0.7500  0.7500  0.6667        3"
    )


class InTorch:
    """The same scores as torch computes them: what the records of earlier runs hold."""

    def __init__(self, matrix, number):
        matrix = torch.from_numpy(matrix)
        self.correct, self.predicted, self.gold = (
            counts[:number] for counts in (matrix.diagonal(), matrix.sum(0), matrix.sum(1))
        )
        self.precision = self.ratio(self.correct, self.predicted)
        self.recall = self.ratio(self.correct, self.gold)
        self.f1 = self.ratio(2 * self.correct, self.predicted + self.gold)

    def ratio(self, numerator, denominator):
        return numerator.to(torch.float32) / denominator.clamp(min=1)

    def macro(self, scores):
        return scores.sum() / ((self.predicted + self.gold) > 0).sum().clamp(min=1)

    def of_classes(self):
        accuracy = self.ratio(self.correct.sum(), self.gold.sum())
        return {
            "accuracy": accuracy,
            "macro_f1": self.macro(self.f1),
            "micro_f1": accuracy,
            "weighted_f1": self.ratio((self.f1 * self.gold).sum(), self.gold.sum()),
            "macro_precision": self.macro(self.precision),
            "macro_recall": self.macro(self.recall),
        }

    def of_entities(self):
        correct, predicted, gold = self.correct.sum(), self.predicted.sum(), self.gold.sum()
        return {
            "entity_precision": self.ratio(correct, predicted),
            "entity_recall": self.ratio(correct, gold),
            "entity_f1": self.ratio(2 * correct, predicted + gold),
            "entity_f1_macro": self.macro(self.f1),
        }


def random_counts(draw, size):
    """Counts of large and small classes, some of which do not occur."""
    matrix = np.array([[draw.choice([0, 0, 1, draw.randrange(50)]) for _ in range(size)] for _ in range(size)])
    matrix[np.arange(size), np.arange(size)] += [draw.choice([0, draw.randrange(10_000)]) for _ in range(size)]
    for absent in draw.sample(range(size), size // 4):
        matrix[absent] = matrix[:, absent] = 0
    return matrix.astype(np.int64)


@pytest.mark.slow
def test_every_bit_is_that_of_torch():
    """How torch adds up eight or more numbers depends on the processor."""
    draw, as_here = random.Random(0), torch.backends.cpu.get_cpu_capability() == "AVX2"
    sizes = [number for number in range(1, 8) for _ in range(100)] + list(range(8, 80)) + [150]
    for number in sizes:
        names = [str(n) for n in range(number)]
        for scorer in (ClassScores(names), EntityScores(names)):
            matrix = random_counts(draw, number + (scorer.OUTSIDE is not None))
            expected = InTorch(matrix, number)
            expected = expected.of_entities() if scorer.OUTSIDE else expected.of_classes()
            expected = {name: value.item() for name, value in expected.items()}
            found = scorer.scores(matrix.ravel())
            assert found == (expected if number < 8 or as_here else pytest.approx(expected, rel=1e-6)), number
