"""The baselines, against what their definitions give in plain loops."""

import numpy as np
import pytest

from peftlab.recommending.baselines import ease, item_knn, popularity, recent_knn, tf_idf, word_search
from peftlab.recommending.interactions import Catalogue

HISTORIES = [(0, 1), (0, 1, 2), (1, 2), (3,), (0, 3, 3)]


def catalogue(*texts):
    ids = tuple(str(n) for n in range(len(texts)))
    return Catalogue(ids, texts, texts)


FOUR = catalogue("red car", "blue car", "blue bike", "green tree")


def has():
    matrix = np.zeros((5, 4))
    for row, own in zip(matrix, HISTORIES, strict=True):
        row[list(own)] = 1
    return matrix


def test_popularity_counts_users():
    assert popularity(HISTORIES, FOUR)([(3,), ()]).tolist() == [[3, 3, 2, 2]] * 2


@pytest.mark.parametrize("neighbours", [1, 3])
def test_item_knn_sums_the_cosines_of_the_nearest(neighbours):
    x = has()
    cosine = x.T @ x / np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(x, axis=0)) - np.eye(4)
    expected = np.zeros(4)
    for item in range(4):
        nearest = np.sort(cosine[item])[::-1][neighbours - 1]
        expected[item] = sum(cosine[item, own] for own in (1, 3) if cosine[item, own] >= nearest)
    np.testing.assert_allclose(item_knn(HISTORIES, FOUR, neighbours)([(1, 3)])[0], expected, atol=1e-12)


def test_recent_knn_reads_the_last_items_alone():
    last = recent_knn(HISTORIES, FOUR, recent=1, neighbours=3)([(0, 3)])
    np.testing.assert_array_equal(last, item_knn(HISTORIES, FOUR, 3)([(3,)]))


def test_ease_is_the_ridge_regression_of_each_item_on_the_others():
    x, scores = has(), ease(HISTORIES, FOUR, 2.0)([(0, 2)])[0]
    for item in range(4):
        others = [n for n in range(4) if n != item]
        weights = np.linalg.solve(x[:, others].T @ x[:, others] + 2 * np.eye(3), x[:, others].T @ x[:, item])
        assert scores[item] == pytest.approx(sum(w for n, w in zip(others, weights, strict=True) if n in (0, 2)))


def test_tf_idf_finds_shared_words():
    scores = tf_idf(HISTORIES, FOUR)([(0,)])[0]
    assert scores[0] == pytest.approx(1)
    assert scores[1] > scores[2] == scores[3] == 0


def test_a_question_finds_items_by_its_words():
    scores = word_search(FOUR)(["a blue one", "nothing"])
    assert (scores[0] > 0).tolist() == [False, True, True, False]
    assert scores[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("titles", [("红色汽车", "红色跑车", "绿树"), ("7", "7!", "9")])
def test_texts_without_spaces_or_long_words_are_read(titles):
    (scores,) = tf_idf(HISTORIES, catalogue(*titles))([(0,)])
    assert scores[0] == pytest.approx(1)
    assert scores[1] > scores[2] == 0
    assert word_search(catalogue(*titles))([titles[2]])[0].argmax() == 2
