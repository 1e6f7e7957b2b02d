"""What a threshold costs: texts are answered, asked back or escalated to a person, and answers may be wrong. NumPy.

In scope, a right answer costs nothing, a wrong one `Costs.wrong`. A question back ("did you mean ...") costs
`Costs.ask`, and a person as well where the right label is not among those offered. Out of scope, any answer is wrong,
and a question back ends at a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

POINTS = 50
"""The most thresholds of a curve."""


@checked_dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Costs:
    """The price of each way that a text can go, in any unit."""

    wrong: float = Field(ge=0, allow_inf_nan=False)
    """A wrong answer."""
    ask: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """A question back, if there are conformal sets."""
    escalate: float = Field(ge=0, allow_inf_nan=False)
    """A person who answers."""


@dataclass(frozen=True)
class Cases:
    """Texts with their scores, and what becomes of them where they are accepted."""

    scores: np.ndarray
    """(texts,)."""
    asked: np.ndarray
    """Whether the set of a text has several labels, (texts,)."""
    answered: np.ndarray
    """Whether it has exactly the predicted one, (texts,); neither: the text is escalated whatever its score."""
    right: np.ndarray
    """Whether the answer, or one of the labels that are offered, is right, (texts,); never out of scope."""

    def prices(self, costs: Costs) -> np.ndarray:
        """Return the cost of each text where it is accepted, (texts,)."""
        if_asked = costs.ask + np.where(self.right, 0.0, costs.escalate)
        if_answered = np.where(self.right, 0.0, costs.wrong)
        return np.where(self.asked, if_asked, np.where(self.answered, if_answered, costs.escalate))


def at_threshold(cases: Cases, threshold: float, costs: Costs | None) -> dict[str, Any]:
    """Return the shares of texts that are answered, asked and escalated, of the answers that are wrong, and the mean
    cost of a text if there are `costs`.
    """
    accepted = cases.scores >= threshold
    answered, asked = accepted & cases.answered, accepted & cases.asked
    wrong = answered & ~cases.right
    shares = {
        "answered": float(answered.mean()),
        "asked": float(asked.mean()),
        "escalated": float(1 - (answered | asked).mean()),
        "wrong_answers": float(wrong.sum() / answered.sum()) if answered.any() else None,
    }
    if costs is None:
        return shares
    return shares | {"cost": float(np.where(accepted, cases.prices(costs), costs.escalate).mean())}


def cheapest(cases: Cases, costs: Costs) -> float:
    """Return the threshold of the least mean cost, a score of a text or beyond all; of several, the smallest."""
    order = np.argsort(cases.scores, kind="stable")
    scores, prices = cases.scores[order], cases.prices(costs)[order]
    # rejecting the n texts of the smallest scores
    totals = np.arange(len(scores) + 1) * costs.escalate + np.append(np.cumsum(prices[::-1])[::-1], 0.0)
    possible = np.append(np.flatnonzero(np.diff(scores, prepend=-np.inf)), len(scores))  # equal scores go together
    best = possible[np.argmin(totals[possible])]
    return float(scores[best]) if best < len(scores) else float(np.nextafter(scores[-1], np.inf))


def curve(cases: Cases, costs: Costs | None) -> list[dict[str, Any]]:
    """Return `at_threshold` at up to `POINTS` thresholds, from the least score to beyond the greatest."""
    distinct = np.unique(cases.scores)
    distinct = np.append(distinct, np.nextafter(distinct[-1], np.inf))
    places = np.unique(np.linspace(0, len(distinct) - 1, POINTS).round().astype(int))
    return [{"threshold": float(one), **at_threshold(cases, float(one), costs)} for one in distinct[places]]
