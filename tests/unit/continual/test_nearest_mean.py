"""The nearest class mean, on embeddings whose answers are plain to see."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.continual.nearest_mean import nearest_mean


def of(*points):
    return np.array([point for point, _ in points], float), [label for _, label in points]


FIRST = {
    "train": of(((1, 0), "a"), ((1, 0.2), "a"), ((0, 1), "b")),
    "test": of(((2, 0.1), "a"), ((0.1, 3), "b")),
}
SECOND = {"train": of(((1, 1), "c"), ((-1, 0), "d")), "test": of(((2, 2.1), "c"), ((1, 0.1), "d"))}


def test_classes_of_later_stages_are_not_known_yet_and_make_the_earlier_ones_harder():
    between = {"train": of(((1, 0.15), "e")), "test": of(((1, 0.15), "e"))}
    matrix = nearest_mean([FIRST, SECOND, between])
    assert matrix[0] == pytest.approx([1, np.nan, np.nan], nan_ok=True)
    assert matrix[1] == pytest.approx([1, 0.5, np.nan], nan_ok=True)
    assert matrix[2] == pytest.approx([1, 0.5, 1])


def test_a_task_that_is_known_is_told_apart_from_no_other():
    crowded = {"train": of(((2, 0.1), "x"), ((0.1, 3), "y")), "test": of(((2, 0.1), "x"))}
    assert nearest_mean([FIRST, crowded])[1, 0] == 0
    assert nearest_mean([FIRST, crowded], together=False)[1, 0] == 1


def test_domains_add_to_the_means_of_the_same_classes():
    other = {"train": of(((0, -1), "b")), "test": of(((0, -2), "b"))}
    matrix = nearest_mean([FIRST, other])
    assert list(matrix[0]) == [1, 0]
    assert list(matrix[1]) == [0.5, 1]  # the mean of b is now between its domains
