from __future__ import annotations

import numpy as np
import pytest

from peftlab.abstaining.costs import Cases, Costs, at_threshold, cheapest, curve

COSTS = Costs(wrong=10, ask=1, escalate=3)


def cases_of(*rows: tuple[float, str, bool]) -> Cases:
    scores, kinds, right = (np.asarray(column) for column in zip(*rows, strict=True))
    return Cases(scores, kinds == "asked", kinds == "answered", right.astype(bool))


def test_each_way_has_its_price():
    cases = cases_of(
        (5, "answered", True), (4, "answered", False), (3, "asked", True), (2, "asked", False), (1, "empty", False)
    )
    assert cases.prices(COSTS).tolist() == [0, 10, 1, 4, 3]
    assert at_threshold(cases, 3, COSTS) == {
        "answered": 0.4,
        "asked": 0.2,
        "escalated": pytest.approx(0.4),
        "wrong_answers": 0.5,
        "cost": pytest.approx((0 + 10 + 1 + 3 + 3) / 5),
    }
    assert at_threshold(cases, 9, None)["wrong_answers"] is None


def test_the_cheapest_threshold_is_that_of_a_search_over_all():
    random = np.random.default_rng(0)
    for _ in range(100):
        number = random.integers(1, 30)
        kinds, right = random.choice(["asked", "answered", "empty"], number), random.random(number) < 0.6
        cases = cases_of(*zip(random.integers(0, 8, number).astype(float), kinds, right, strict=True))
        costs = Costs(wrong=float(random.integers(0, 9)), ask=1, escalate=float(random.integers(0, 5)))
        possible = [*np.unique(cases.scores), np.inf]
        least = min(at_threshold(cases, one, costs)["cost"] for one in possible)
        assert at_threshold(cases, cheapest(cases, costs), costs)["cost"] == pytest.approx(least)


def test_a_curve_goes_from_everything_to_nothing():
    random = np.random.default_rng(0)
    cases = cases_of(*((score, "answered", True) for score in random.normal(size=500)))
    points = curve(cases, COSTS)
    assert len(points) == 50
    assert (points[0]["answered"], points[-1]["answered"]) == (1.0, 0.0)
    shares = [point["answered"] for point in points]
    assert shares == sorted(shares, reverse=True)
