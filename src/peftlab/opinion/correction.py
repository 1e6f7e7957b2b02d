"""Shares of labels, corrected for the errors of the classifier that has given them.

A classifier that takes a tenth of the neutral texts for negative ones sees more anger than there is, and of each change
only a part. Its errors on labelled texts say how much: the predicted shares are q = M' p, with M the probability of a
predicted label (column) given the true one (row), so that p = M'^-1 q (Rogan & Gladen 1978 for two labels; the adjusted
count of Forman 2008). With probabilities, p is the maximum of their likelihood (Saerens, Latinne & Decaestecker 2002).
Both assume that the texts of a label stay what they were, and only the labels' shares change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from peftlab.errors import ConfigError

WORST = 10.0
"""The largest condition number: a correction that multiplies the noise by more says nothing."""
DRAWS = 500
"""Of an interval."""
FEWEST = 10
"""Labelled texts of a label that show its errors."""
_INSTEAD = "Set correction: none, or em, which works with probabilities"
_PRIOR = 0.5
"""Pseudo-counts of a prior in each row, divided among its cells."""
_TOLERANCE, _MOST_STEPS = 1e-9, 2_000


@dataclass(frozen=True)
class Confusion:
    """How often a label was predicted for texts of a label.

    Attributes:
        labels: of rows (gold) and columns (predicted).
        counts: shape (labels, labels).
    """

    labels: tuple[str, ...]
    counts: np.ndarray

    @cached_property
    def rates(self) -> np.ndarray:
        """The probability of each predicted label given the gold one, shape (labels, labels); rows sum to 1."""
        return self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1)

    @cached_property
    def priors(self) -> np.ndarray:
        """The shares of the gold labels, shape (labels,)."""
        return self.counts.sum(1) / self.counts.sum()

    @cached_property
    def inverse(self) -> np.ndarray:
        """What a text with a predicted label (column) adds to the shares of the true labels (rows)."""
        return np.linalg.inv(self.rates.T)

    def check(self, name: str, correction: str = "adjusted") -> None:
        """Refuse a confusion that shares cannot be corrected by.

        Args:
            name: what the run answers.
            correction: ``adjusted``, or ``em``, which takes only the shares of the labels from it.

        Raises:
            ConfigError: a label has too few texts, or labels are hardly told apart.
        """
        fewest, instead = (1, "Set correction: none") if correction == "em" else (FEWEST, _INSTEAD)
        for label, count in zip(self.labels, self.counts.sum(1), strict=True):
            if count < fewest:
                raise ConfigError(
                    f"correction: {correction}: the run of '{name}' has answered {count:.0f} labelled texts of "
                    f"'{label}', and {fewest} or more are needed to know its errors. {instead}"
                )
        if correction == "adjusted" and (worst := float(np.linalg.cond(self.rates))) > WORST:
            raise ConfigError(
                f"correction: adjusted: the run of '{name}' hardly tells some labels apart (the condition number of "
                f"its confusion is {worst:.1f}, above {WORST:g}). {instead}"
            )

    def draws(self, random: np.random.Generator) -> np.ndarray:
        """Return inverses for confusions drawn from their posterior, shape (DRAWS, labels, labels).

        A draw whose labels can hardly be told apart is replaced by the estimate, which `check` has passed.
        """
        rows = random.standard_gamma(self.counts + _PRIOR / len(self.labels), (DRAWS, *self.counts.shape))
        rates = np.swapaxes(rows / rows.sum(-1, keepdims=True), 1, 2)
        poor = np.linalg.cond(rates) > 3 * WORST
        rates[poor] = self.rates.T
        inverses: np.ndarray = np.linalg.inv(rates)
        return inverses


def project(shares: np.ndarray) -> np.ndarray:
    """Return the nearest points of the simplex (Duchi et al. 2008), shape (..., labels)."""
    size = shares.shape[-1]
    falling = -np.sort(-shares, axis=-1)
    over = np.cumsum(falling, -1) - 1
    kept = (falling - over / np.arange(1, size + 1) > 0).sum(-1, keepdims=True)
    cut = np.take_along_axis(over, kept - 1, -1) / kept
    nearest: np.ndarray = np.maximum(shares - cut, 0.0)
    return nearest


def drawn_shares(counts: np.ndarray, inverses: np.ndarray | None, random: np.random.Generator) -> np.ndarray:
    """Return draws of the shares behind counts of predicted labels, shape (..., DRAWS, labels), on the simplex.

    Args:
        counts: shape (..., labels).
        inverses: of drawn confusions, see `Confusion.draws`, the same for all counts, so that their error cancels in a
            difference as far as it does; None: predicted labels are true.
        random: the source of the draws.
    """
    gammas = random.standard_gamma(
        counts[..., None, :] + _PRIOR / counts.shape[-1], (*counts.shape[:-1], DRAWS, counts.shape[-1])
    )
    predicted = gammas / gammas.sum(-1, keepdims=True)
    return predicted if inverses is None else project(np.einsum("dgp,...dp->...dg", inverses, predicted))


def em(probabilities: np.ndarray, priors: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares under which probabilities of labels are most likely, and their variance for a single text.

    Args:
        probabilities: of each text, shape (texts, labels), calibrated for the shares `priors`.
        priors: the shares of the labels in the data that the classifier has learnt.

    Returns:
        The shares, and n times their variances (from the inverse of the observed information), both of shape
        (labels,). Equation 2.4 of Saerens et al. is iterated until nothing changes.
    """
    ratios = probabilities / np.maximum(priors, 1e-12)
    shares = np.full(probabilities.shape[1], 1 / probabilities.shape[1])
    for _ in range(_MOST_STEPS):
        joint = ratios * shares
        before, shares = shares, (joint / joint.sum(1, keepdims=True)).mean(0)
        if np.abs(shares - before).max() < _TOLERANCE:
            break
    slopes = (ratios[:, :-1] - ratios[:, -1:]) / np.maximum(ratios @ shares, 1e-12)[:, None]
    covariance = np.linalg.pinv(slopes.T @ slopes / len(slopes))
    return shares, np.append(np.diag(covariance), covariance.sum())
