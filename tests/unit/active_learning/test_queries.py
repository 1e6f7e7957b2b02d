"""Queries: against numbers computed by hand, and against what small-text chooses from the same arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.nn import functional

from peftlab.active_learning import queries
from peftlab.active_learning.observed import Observed
from peftlab.active_learning.pool import unseen
from peftlab.active_learning.queries import badge, bald, cal
from peftlab.errors import ConfigError


def observed(distributions, embeddings=None, starts=None, samples=None):
    distributions = np.asarray(distributions, dtype=float)
    starts = np.arange(len(distributions) + 1) if starts is None else np.asarray(starts)
    return Observed(starts, distributions, samples, embeddings)


def choose(name, pool, labelled=None, number=1, seed=0):
    return queries.named(name).choose(pool, labelled or unseen(1), number, np.random.default_rng(seed)).tolist()


SMALL_TEXT = {
    "least_confidence": {4, 9, 11, 17, 19, 27},
    "breaking_ties": {0, 4, 9, 17, 23, 29},
    "entropy": {4, 11, 15, 17, 22, 28},
    "coreset": [6, 28, 4, 27, 11, 7],
    "cal": {0, 3, 14, 16, 18, 21},
}
"""What small-text 1.4.1 chooses, 6 each, from the arrays of `arrays`: by `query` of the first three with a classifier
that gives these probabilities; by `greedy_coreset` with Euclidean distances; by ContrastiveActiveLearning(k=10,
normalize=False) with the neighbours among the labelled ones, as in the paper (its own `sample` looks among all)."""


def arrays():
    """Return 30 candidates and 12 labelled examples: distributions over 5 classes, embeddings of 4 numbers."""
    random = np.random.default_rng(7)
    distributions, embeddings = random.dirichlet(np.full(5, 0.7), size=42), random.normal(size=(42, 4))
    return observed(distributions[:30], embeddings[:30]), observed(distributions[30:], embeddings[30:])


@pytest.mark.parametrize("name", SMALL_TEXT)
def test_what_small_text_chooses(name):
    expected, chosen = SMALL_TEXT[name], choose(name, *arrays(), number=6)
    assert (chosen if isinstance(expected, list) else set(chosen)) == expected


def test_every_query_chooses_so_many_others_by_its_own_draws():
    pool, labelled = arrays()
    pool = Observed(pool.starts, pool.distributions, np.stack([pool.distributions] * 3), pool.embeddings)
    for name in queries.names():
        for number in (1, 7, 30):
            chosen = choose(name, pool, labelled, number)
            assert len(chosen) == number == len(set(chosen)), name
            assert chosen == choose(name, pool, labelled, number), name
    assert choose("random", pool, number=30) != choose("random", pool, number=30, seed=1)


def test_ties_are_broken_by_chance_and_copies_do_not_stop_a_query():
    same = observed(np.full((20, 2), 0.5), np.ones((20, 3)), samples=np.full((2, 20, 2), 0.5))
    for name in queries.names():
        firsts = {choose(name, same, same, number=20, seed=seed)[0] for seed in range(8)}
        assert len(firsts) > 3, name


def test_bald_is_the_information_that_draws_disagree_by():
    samples = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]])
    # ln 2 - (-.9 ln .9 - .1 ln .1); the second text is as uncertain, but all draws agree
    assert bald.information(samples) == pytest.approx([0.36806, 0.0], abs=5e-6)
    assert choose("bald", observed([[0.5, 0.5], [0.5, 0.5]], samples=samples)) == [0]
    assert bald.information(np.array([[[1.0, 0.0]], [[0.0, 1.0]]])) == pytest.approx([np.log(2)])


def test_coreset_takes_the_farthest():
    points = np.array([[0.0], [1.0], [10.0]])
    known = observed([[1.0]], np.array([[0.0]]))
    assert choose("coreset", observed(np.ones((3, 1)), points), known) == [2]
    assert choose("coreset", observed(np.ones((3, 1)), points), known, number=3) == [2, 1, 0]


def test_badge_has_the_gradients_of_the_last_layer_for_the_most_probable_label():
    random = np.random.default_rng(5)
    weights, embeddings = torch.tensor(random.normal(size=(5, 4)), requires_grad=True), random.normal(size=(6, 4))
    logits = torch.tensor(embeddings) @ weights.T
    pool = observed(logits.softmax(-1).detach().numpy(), embeddings)
    for n in range(6):
        loss = functional.cross_entropy(logits[n], logits[n].argmax())
        (gradient,) = torch.autograd.grad(loss, weights, retain_graph=True)
        assert np.outer(badge.residuals(pool)[n], embeddings[n]) == pytest.approx(gradient.numpy())


def test_badge_agrees_with_small_text_on_all_labels_but_the_most_probable():
    pool, _ = arrays()
    gradient = np.outer(badge.residuals(pool)[4], pool.embeddings[4])
    # small-text 1.4.1, get_badge_embeddings, of text 4; at its most probable label, 3, there is -p h, and not (1 - p) h
    of_label = {0: 0.351366, 1: 0.22462, 2: 0.107448, 4: 0.132172}
    assert {label: float(gradient[label, 0]) for label in of_label} == pytest.approx(
        {label: -value for label, value in of_label.items()}, abs=1e-6
    )


def test_badge_draws_as_k_means_does():
    pool, _ = arrays()
    gradients = np.einsum("nc,nd->ncd", badge.residuals(pool), pool.embeddings).reshape(30, -1)
    random = np.random.default_rng(3)
    centres = [int(random.integers(30))]
    for _ in range(4):
        apart = np.square(gradients[:, None] - gradients[centres]).sum(-1).min(1)
        centres.append(int(random.choice(30, p=apart / apart.sum())))
    assert choose("badge", pool, number=5, seed=3) == centres


def test_cal_compares_with_labelled_neighbours():
    pool = observed([[0.9, 0.1], [0.5, 0.5]], np.array([[0.0], [0.1]]))
    labelled = observed([[0.9, 0.1], [0.1, 0.9]], np.array([[0.0], [9.0]]))
    of_one = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    assert cal.divergences(pool, labelled, neighbours=1) == pytest.approx([0.0, of_one])
    certain = observed([[1.0, 0.0]], np.array([[0.0]]))
    assert np.isfinite(cal.divergences(certain, labelled)).all()


def test_sentences_count_by_the_mean_over_their_words():
    sure, unsure = [0.9, 0.05, 0.05], [0.4, 0.35, 0.25]
    sentences = observed([sure] * 9 + [unsure, sure, unsure], starts=[0, 10, 12, 12])
    for name in ("least_confidence", "breaking_ties", "entropy", "mnlp"):
        # the long one has as much in sum, and less a word; the last has no word with a token
        assert choose(name, sentences, number=3)[0] == 1, name
    assert sentences.mean(np.ones(12)).tolist() == [1, 1, 0]


def test_several_labels_count_each_by_itself():
    pool = observed([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]], np.eye(2), starts=[0, 2, 4])
    assert choose("least_confidence", pool) == [1]
    assert badge.residuals(pool).shape == (2, 4)
    assert badge.residuals(pool)[1] == pytest.approx([-0.4, 0.4, -0.4, 0.4])


def test_of_keeps_what_belongs_to_an_example():
    whole = observed(np.arange(12).reshape(6, 2), np.arange(3)[:, None], [0, 1, 3, 6], np.arange(12).reshape(1, 6, 2))
    part = whole.of([2, 0])
    assert part.starts.tolist() == [0, 3, 4]
    assert part.distributions[:, 0].tolist() == [6, 8, 10, 0] == part.samples[0, :, 0].tolist()
    assert part.embeddings[:, 0].tolist() == [2, 0]
    assert len(whole.of([])) == 0


def test_what_is_refused():
    for name, kind, reason in (
        ("breaking_tie", "classification", "no such query. Did you mean 'breaking_ties'"),
        ("badge", "ner", "one label a text"),
        ("cal", "ner", "sentences have one a word"),
        ("mnlp", "classification", "would be least_confidence"),
        ("entropy", "regression", "a number without a distribution"),
        ("bald", "regression", "take random or coreset"),
    ):
        with pytest.raises(ConfigError, match=reason):
            queries.check(name, kind)
    for kind in ("regression", "ner", "several labels", "classification"):
        queries.check("random", kind)
        queries.check("coreset", kind)


def test_cal_holds_few_distances_at_once_and_says_the_same(monkeypatch):
    pool, labelled = arrays()
    whole = cal.divergences(pool, labelled)
    shapes = []

    def measured(some, others):
        shapes.append((len(some), len(others)))
        return cdist(some, others)

    monkeypatch.setattr("scipy.spatial.distance.cdist", measured)
    monkeypatch.setattr(cal, "_MOST_CELLS", 7 * 12 + 1)
    assert cal.divergences(pool, labelled).tobytes() == whole.tobytes()
    assert shapes == [(7, 12)] * 4 + [(2, 12)]
