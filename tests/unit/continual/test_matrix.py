"""What a matrix of scores says, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.continual.matrix import MEASURES, Matrix, matrix_of


def test_two_stages():
    matrix = matrix_of([[0.9, 0.1], [0.7, 0.8]])
    assert matrix.accuracy == pytest.approx(0.75)
    assert matrix.learnt == pytest.approx(0.85)
    assert matrix.backward_transfer == pytest.approx(-0.2)
    assert matrix.forgetting == pytest.approx(0.2)
    assert matrix.zero_shot == pytest.approx(0.1)


def test_forgetting_is_against_the_best_score_ever_and_backward_transfer_against_the_first():
    matrix = matrix_of([[0.6, None, None], [0.9, 0.5, None], [0.8, 0.7, 1.0]])
    assert matrix.backward_transfer == pytest.approx((0.2 + 0.2) / 2)
    assert matrix.forgetting == pytest.approx((0.1 - 0.2) / 2)
    assert matrix.measures()["zero_shot"] is None
    assert set(matrix.measures()) == set(MEASURES)
    assert matrix.rows()[0] == [0.6, None, None]


def test_of_a_score_of_which_less_is_better_forgetting_is_what_it_has_grown_by():
    matrix = matrix_of([[1.0, 4.0], [3.0, 1.0]], "min")
    assert matrix.forgetting == pytest.approx(2.0)
    assert matrix.backward_transfer == pytest.approx(-2.0)


def test_what_a_merged_model_makes_of_the_last_stage_is_not_what_that_stage_has_learnt():
    merged = Matrix(matrix_of([[0.9, None], [0.6, 0.5]]).values, last=0.7)
    assert merged.learnt == pytest.approx(0.8)
    assert merged.accuracy == pytest.approx(0.55)
    assert merged.backward_transfer == pytest.approx(-0.3)


def test_it_is_square():
    with pytest.raises(ValueError, match="square"):
        Matrix(np.zeros((2, 3)))
