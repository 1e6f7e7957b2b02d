"""What the votes say together: the majority, votes weighted by measured accuracies, or a generative model of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from peftlab.weak_supervision.votes import ABSTAIN, Votes

PRIOR_ACCURACY, PRIOR_VOTES = 0.7, 10.0
"""What is thought of a function before it is seen: as if so many votes of it had been judged, and that share of them
were right. A function with few votes stays near it."""

COPIES = 0.9
"""Two functions that give the same vote on this share of the rows on which either votes are taken for one rule."""

_MOST_ROUNDS, _CLOSE, _LEAST = 1000, 1e-5, 1e-9


def majority(votes: Votes) -> np.ndarray:
    """Return the share of each label among the most frequent ones, shape (rows, labels): 1 for the only winner, less
    for each of several, and equal shares of all labels where nobody votes.
    """
    counts = votes.counts()
    winners = counts == counts.max(axis=1, keepdims=True)
    shares: np.ndarray = winners / winners.sum(axis=1, keepdims=True)
    return shares


def weighted(votes: Votes, right: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Return the probability of each label, shape (rows, labels), if functions err independently, each as often as on
    labelled examples, and all wrong labels are equally probable; a function below chance has no weight.

    Args:
        votes: those to combine.
        right: how many votes of each function are right, shape (functions,), or for each row, (rows, functions).
        judged: how many are right or wrong, of the same shape.
    """
    others = max(len(votes.labels) - 1, 1)
    accuracy = (right + PRIOR_ACCURACY * PRIOR_VOTES) / (judged + PRIOR_VOTES)
    weights = np.maximum(np.log(accuracy * others / (1 - accuracy)), 0)
    evidence = [((votes.table == label) * weights).sum(axis=1) for label in range(len(votes.labels))]
    return _normalised(np.stack(evidence, axis=1))


@dataclass(frozen=True)
class Generative:
    """A model of the votes: each function has an accuracy, and the labels have a balance; see `generative`."""

    accuracy: np.ndarray
    """The probability that a vote of each function is right, shape (functions,)."""
    coverage: np.ndarray
    """The share of the rows on which each function votes for each label, shape (functions, labels)."""
    balance: np.ndarray
    """The share of each label among all rows, shape (labels,)."""
    credit: np.ndarray
    """How much a vote of each function counts, shape (functions,): 1, and copies of a rule share it."""
    settled: bool = True
    """Whether further rounds of fitting would change next to nothing."""

    @property
    def said(self) -> np.ndarray:
        """The probability of what each function says of a row with each label, shape (functions, labels, labels + 1);
        the last entry is to abstain.

        By Bayes' rule, a function votes for a label as often as it does, is right with its accuracy, and if it is
        wrong, the true label is one of the others, each according to its share.
        """
        right = self.accuracy[:, None] / self.balance
        wrong = (1 - self.accuracy)[:, None] / np.maximum(1 - self.balance, _LEAST)
        is_right = np.eye(len(self.balance), dtype=bool)  # the true label in the first place, the vote in the second
        voted = np.where(is_right, right[:, None, :], wrong[:, None, :]) * self.coverage[:, None, :]
        total = voted.sum(axis=2, keepdims=True)
        voted *= np.minimum(1, (1 - _LEAST) / np.maximum(total, _LEAST))  # an accuracy that these shares rule out
        return np.concatenate([voted, 1 - voted.sum(axis=2, keepdims=True)], axis=2) + _LEAST

    def probabilities(self, votes: Votes) -> np.ndarray:
        """Return the probability of each label, shape (rows, labels), given the votes of the same functions; that a
        function abstains is evidence of nothing.
        """
        return self.posterior_of(_outcomes(votes), hears_silence=False)

    def posterior_of(self, outcomes: np.ndarray, hears_silence: bool) -> np.ndarray:
        """Return the probability of each label, shape (rows, labels), given what each function says of a row.

        Args:
            outcomes: the label that each function votes for, or the last number if it abstains, (rows, functions).
            hears_silence: whether it is evidence that a function abstains.
        """
        logarithms = np.log(self.said)
        if not hears_silence:
            logarithms[:, :, -1] = 0
        evidence = np.tile(np.log(self.balance), (len(outcomes), 1))
        for of_function, by_label, credit in zip(outcomes.T, logarithms, self.credit, strict=True):
            evidence += credit * by_label.T[of_function]
        return _normalised(evidence)


def generative(votes: Votes, balance: np.ndarray | None = None) -> Generative:
    """Fit a model of the votes without any label, by expectation maximisation (Dawid & Skene 1979).

    The true label is hidden; given it, functions vote independently. The accuracy of a function is the expected share
    of its votes that are right, under a Beta prior (`PRIOR_ACCURACY`, `PRIOR_VOTES`), which also says that functions
    are better than chance: without it labels could change places.

    Copies of a rule would be taken for witnesses that confirm each other, and outdo all others. They share one vote.

    Of texts, how often functions speak together is evidence, too: two that always vote for the same label agree
    whenever both vote, and only the rate tells whether that is more than chance. Of words, functions are silent on
    nearly all, and only votes are evidence; all tags are then equally probable before them.

    Args:
        votes: those of the functions.
        balance: the share of each label, shape (labels,); None: of texts it is learnt.
    """
    outcomes, counts = np.unique(_outcomes(votes), axis=0, return_counts=True)
    labels, of_texts = len(votes.labels), votes.lengths is None
    tallies = np.asarray([np.bincount(column, weights=counts, minlength=labels + 1)[:labels] for column in outcomes.T])
    number = tallies.sum(axis=1)
    learns_balance = balance is None and of_texts
    model = Generative(
        np.full(len(votes.names), PRIOR_ACCURACY),
        tallies / counts.sum(),
        np.full(labels, 1 / labels) if balance is None else balance,
        1 / (alike(votes) >= COPIES).sum(axis=1),
    )
    for _ in range(_MOST_ROUNDS):
        before = model
        posterior = before.posterior_of(outcomes, hears_silence=of_texts)
        padded = np.concatenate([posterior, np.zeros((len(posterior), 1))], axis=1)  # to abstain is never right
        right = np.asarray([counts @ padded[np.arange(len(outcomes)), column] for column in outcomes.T])
        accuracy = (right + PRIOR_ACCURACY * PRIOR_VOTES) / (number + PRIOR_VOTES)
        shares = counts @ posterior + PRIOR_VOTES
        balance = shares / shares.sum() if learns_balance else before.balance
        model = replace(before, accuracy=accuracy, balance=balance)
        change = max(np.abs(model.accuracy - before.accuracy).max(), np.abs(model.balance - before.balance).max())
        if change < _CLOSE:
            return model
    return replace(model, settled=False)


def alike(votes: Votes) -> np.ndarray:
    """Return for each two functions the share of the rows on which either votes that both give the same vote, shape
    (functions, functions).
    """
    columns = votes.table.T
    same = np.asarray([[((one == other) & (one != ABSTAIN)).sum() for other in columns] for one in columns])
    number = same.diagonal()
    both = np.asarray([[((one != ABSTAIN) & (other != ABSTAIN)).sum() for other in columns] for one in columns])
    shares: np.ndarray = same / np.maximum(number[:, None] + number - both, 1)
    np.fill_diagonal(shares, 1)
    return shares


def _outcomes(votes: Votes) -> np.ndarray:
    """Return what each function says of each row, shape (rows, functions): a label, or to abstain as the last one."""
    return np.where(votes.table == ABSTAIN, len(votes.labels), votes.table)


def _normalised(logarithms: np.ndarray) -> np.ndarray:
    shares = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    normalised: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
    return normalised
