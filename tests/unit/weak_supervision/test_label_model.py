"""The label models on planted functions, on equal ones, and beside those of snorkel on the same votes."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.weak_supervision import evidence
from peftlab.weak_supervision.label_model import COPIES, PRIOR_ACCURACY, Generative, generative, majority, weighted
from peftlab.weak_supervision.votes import ABSTAIN, Votes

ACCURACIES = [0.9, 0.8, 0.75, 0.7, 0.6, 0.55]

# snorkel 0.10.0: LabelModel(cardinality=3).fit(table, n_epochs=1000, seed=0), `predict_proba` of the first 20 rows of
# planted(3000) and `get_weights()`; it is right on .8772 of the rows with a vote
SNORKEL = [
    *([0.999, 0.0, 0.001], [0.041, 0.019, 0.94], [0.978, 0.018, 0.004], [0.548, 0.349, 0.103], [0.017, 0.007, 0.976]),
    *([0.777, 0.207, 0.016], [0.0, 1.0, 0.0], [0.999, 0.0, 0.0], [0.0, 1.0, 0.0], [0.006, 0.024, 0.97]),
    *([0.892, 0.023, 0.085], [0.001, 0.0, 0.999], [0.007, 0.008, 0.985], [0.798, 0.021, 0.181], [0.003, 0.004, 0.993]),
    *(
        [0.144, 0.143, 0.713],
        [0.156, 0.798, 0.045],
        [0.996, 0.003, 0.001],
        [0.333, 0.333, 0.333],
        [0.008, 0.018, 0.973],
    ),
]
SNORKEL_ACCURACIES = [0.913, 0.803, 0.768, 0.716, 0.59, 0.559]


def planted(rows: int) -> tuple[np.ndarray, Votes]:
    """Return the truth, three equal classes, and votes of functions of known accuracies on 60 % of the rows each."""
    random = np.random.default_rng(27)
    truth, table = random.integers(0, 3, rows), np.full((rows, len(ACCURACIES)), ABSTAIN)
    for function, accuracy in enumerate(ACCURACIES):
        votes, right = random.random(rows) < 0.6, random.random(rows) < accuracy
        table[votes, function] = np.where(right, truth, (truth + random.integers(1, 3, rows)) % 3)[votes]
    return truth, Votes(table, list("abcdef"), list("xyz"))


def keywords(rows: int, precisions: list[float], coverage: float) -> tuple[np.ndarray, Votes]:
    """Return the truth, classes of 20, 50 and 30 %, and votes of functions that know one label each, in turn."""
    random, shares = np.random.default_rng(3), np.asarray([0.2, 0.5, 0.3])
    truth, table = random.choice(3, rows, p=shares), np.full((rows, len(precisions)), ABSTAIN)
    for function, precision in enumerate(precisions):
        label = function % 3
        rates = np.where(truth == label, precision / shares[label], (1 - precision) / (1 - shares[label]))
        table[random.random(rows) < rates * coverage, function] = label
    return truth, Votes(table, [str(n) for n in range(len(precisions))], list("xyz"))


def test_accuracies_are_recovered_within_sampling_error():
    truth, votes = planted(3000)
    model = generative(votes)
    assert model.accuracy == pytest.approx(ACCURACIES, abs=0.02)  # 1,800 votes each: a standard error is 0.01
    assert model.balance == pytest.approx([1 / 3] * 3, abs=0.03)
    labels = model.probabilities(votes).argmax(axis=1)
    best, usual = ((one == truth)[votes.voted].mean() for one in (labels, majority(votes).argmax(axis=1)))
    assert best > usual + 0.02


def test_functions_that_know_one_label_are_recovered_with_the_balance():
    precisions = [0.9, 0.8, 0.7, 0.6, 0.85, 0.9, 0.75, 0.7, 0.6]
    truth, votes = keywords(8000, precisions, coverage=0.15)
    model = generative(votes)
    assert model.accuracy == pytest.approx(precisions, abs=0.08)
    assert model.balance == pytest.approx([0.2, 0.5, 0.3], abs=0.04)
    chosen = model.probabilities(votes).argmax(axis=1)
    assert (chosen == truth)[votes.voted].mean() > (majority(votes).argmax(axis=1) == truth)[votes.voted].mean() + 0.02


def test_equal_accuracies_are_a_majority_vote():
    _, votes = planted(400)
    model = Generative(np.full(6, 0.7), np.full((6, 3), 0.2), np.full(3, 1 / 3), np.ones(6))
    probabilities, shares = model.probabilities(votes), majority(votes)
    most = probabilities >= probabilities.max(axis=1, keepdims=True) - 1e-9
    assert (most == (shares == shares.max(axis=1, keepdims=True))).all()
    right, judged = np.full(6, 70), np.full(6, 100)
    combined = weighted(votes, right, judged)
    assert ((combined >= combined.max(axis=1, keepdims=True) - 1e-9) == most).all()


def test_the_probabilities_are_those_of_snorkel_up_to_its_noise():
    _, votes = planted(3000)
    model = generative(votes)
    own = model.probabilities(votes)[:20]
    assert own == pytest.approx(np.asarray(SNORKEL), abs=0.08)
    assert (own.argmax(axis=1) == np.argmax(SNORKEL, axis=1))[votes.voted[:20]].all()
    assert model.accuracy == pytest.approx(SNORKEL_ACCURACIES, abs=0.01)


def test_a_balance_that_is_known_stays():
    _, votes = planted(200)
    assert generative(votes, np.asarray([0.5, 0.3, 0.2])).balance.tolist() == [0.5, 0.3, 0.2]


def test_few_votes_and_none_change_little():
    table = np.full((60, 4), ABSTAIN)
    table[:40, :2] = np.arange(40)[:, None] % 2
    table[0, 2] = 1  # against both
    model = generative(Votes(table, list("abcd"), ["x", "y"]))
    assert 0.5 < model.accuracy[2] < PRIOR_ACCURACY
    assert model.accuracy[3] == PRIOR_ACCURACY
    assert np.isfinite(model.said).all()
    assert model.said.sum(axis=2) == pytest.approx(1)


def test_weights_follow_what_is_measured():
    votes = Votes(np.asarray([[0, 1, 1], [1, 0, ABSTAIN]]), list("abc"), ["x", "y"])
    probabilities = weighted(votes, np.asarray([99, 55, 55]), np.asarray([100, 100, 100]))
    assert probabilities.argmax(axis=1).tolist() == [0, 1]
    # a: (99 + 7) / 110, b: (55 + 7) / 110; odds of the second row: odds of a over odds of b
    first, second = 106 / 110, 62 / 110
    odds = first / (1 - first) / (second / (1 - second))
    assert probabilities[1, 1] == pytest.approx(odds / (1 + odds))


def test_copies_are_named_and_independent_functions_are_not():
    _, votes = planted(3000)
    assert evidence.pairs(votes, generative(votes)) == []
    copied = Votes(np.column_stack([votes.table, votes.table[:, 4]]), [*votes.names, "copy"], votes.labels)
    model = generative(copied)
    (pair,) = evidence.pairs(copied, model)
    assert (pair["pair"], pair["alike"], pair["repeated"]) == (["e", "copy"], 1, 1)
    assert model.accuracy[:6] == pytest.approx(generative(votes).accuracy, abs=1e-3)  # as if there were no copy
    (doubt,) = evidence.doubts(copied, evidence.of_functions(copied, model), [pair])
    assert doubt.startswith("'e' and 'copy' are nearly one rule: the same vote on 100%")


def test_functions_that_share_their_errors_are_named():
    _, votes = planted(3000)
    random = np.random.default_rng(1)
    near = np.where(random.random(3000) < 0.8, votes.table[:, 5], (votes.table[:, 5] + 1) % 3)
    near[votes.table[:, 5] == ABSTAIN] = ABSTAIN
    related = Votes(np.column_stack([votes.table, near]), [*votes.names, "near"], votes.labels)
    (pair,) = evidence.pairs(related, generative(related))
    assert pair["pair"] == ["f", "near"]
    assert pair["agree"] > 1.25 * pair["expected"]
    assert pair["alike"] < COPIES


def test_one_rule_within_another_is_named():
    _, votes = keywords(3000, [0.9, 0.8, 0.7, 0.6, 0.85, 0.9], coverage=0.1)
    within = np.where(np.random.default_rng(1).random(3000) < 0.3, votes.table[:, 0], ABSTAIN)
    nested = Votes(np.column_stack([votes.table, within]), [*votes.names, "within"], votes.labels)
    assert [pair["pair"] for pair in evidence.pairs(nested, generative(nested))] == [["0", "within"]]


def test_worse_than_chance_is_said():
    truth, votes = planted(2000)
    table = votes.table.copy()
    table[:, 5] = np.where(table[:, 5] == ABSTAIN, ABSTAIN, (truth + 1) % 3)  # never right
    table[:, 4] = ABSTAIN
    wrong = Votes(table, votes.names, votes.labels)
    facts = evidence.of_functions(wrong, generative(wrong))
    silent, doubt = evidence.doubts(wrong, facts, [])
    assert silent == "'e' never votes"
    assert doubt.startswith("'f' seems worse than chance: the model takes 0.0")
    for one, measured in zip(facts, evidence.judged(wrong, truth), strict=True):
        one["dev"] = measured
    _, doubt = evidence.doubts(wrong, facts, [])
    assert doubt.startswith(f"'f' is worse than chance: 0 of {facts[5]['votes']} votes are right, and guessing would")


def test_coverage_overlaps_and_conflicts_by_hand():
    table = np.asarray([[0, 0, ABSTAIN], [0, 1, ABSTAIN], [1, ABSTAIN, ABSTAIN], [ABSTAIN] * 3])
    votes = Votes(table, list("abc"), ["x", "y"])
    first, second, third = evidence.of_functions(votes, generative(votes))
    assert [first[key] for key in ("labels", "votes", "coverage", "overlaps", "conflicts")] == [
        ["x", "y"],
        3,
        0.75,
        0.5,
        0.25,
    ]
    assert [second[key] for key in ("votes", "coverage", "overlaps", "conflicts")] == [2, 0.5, 0.5, 0.25]
    assert [third[key] for key in ("labels", "votes", "chance")] == [[], 0, None]


def test_a_share_has_wilsons_interval():
    # Wilson's interval with Student's quantile at 99 degrees of freedom, 1.98422, and 99 effective examples: 80 of 100
    share = evidence.share(np.arange(100) < 80)
    z, n = 1.984217, 99
    centre, half = (0.8 + z**2 / 2 / n) / (1 + z**2 / n), z / (1 + z**2 / n) * (0.16 / n + z**2 / 4 / n**2) ** 0.5
    assert (share["judged"], share["right"], share["share"]) == (100, 80, 0.8)
    assert (share["low"], share["high"]) == pytest.approx((centre - half, centre + half), abs=1e-6)
