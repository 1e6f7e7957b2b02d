"""Limits: a bucket's arithmetic, and that processes count together."""

from __future__ import annotations

import random

import pytest

from peftlab.serving.access.limits import Limits


class Clock:
    def __init__(self):
        self.now = 500.0

    def __call__(self):
        return self.now


def test_a_minutes_worth_at_once_and_then_its_rate():
    clock = Clock()
    limits = Limits(clock=clock)
    assert [limits.take("a", 1, 6) for _ in range(6)] == [0] * 6
    assert limits.take("a", 1, 6) == 10
    assert limits.take("b", 1, 6) == 0
    clock.now += 9
    assert limits.take("a", 1, 6) == 1
    clock.now += 1
    assert limits.take("a", 1, 6) == 0
    assert limits.take("a", 1, 6) == 10


def test_never_more_than_a_bucket_and_what_flows_in():
    """Against a count of all that was granted in any stretch of time."""
    clock, drawn, granted = Clock(), random.Random(0), []
    limits = Limits(clock=clock)
    for _ in range(2000):
        clock.now += drawn.expovariate(2)
        amount = drawn.randint(1, 5)
        if limits.take("a", amount, 30) == 0:
            granted.append((clock.now, amount))
    for first in range(0, len(granted), 7):
        total = 0
        for moment, amount in granted[first:]:
            total += amount
            assert total <= 30 + (moment - granted[first][0]) / 2 + 1e-6
    assert sum(amount for _, amount in granted) > 0.95 * (granted[-1][0] - granted[0][0]) / 2


def test_who_waits_as_told_is_served():
    clock = Clock()
    limits = Limits(clock=clock)
    limits.take("a", 50, 60)
    clock.now += limits.take("a", 30, 60) + 1e-6
    assert limits.take("a", 30, 60) == 0


def test_more_than_a_minutes_worth_is_slowed_down_not_shut_out():
    clock = Clock()
    limits = Limits(clock=clock)
    assert limits.take("a", 300, 60) == 0
    assert limits.take("a", 1, 60) == 241
    clock.now += 241
    assert limits.take("a", 1, 60) == 0


def test_processes_count_together(tmp_path):
    clock = Clock()
    first, second = Limits(tmp_path, clock), Limits(tmp_path, clock)
    assert [one.take("a", 1, 4) for one in (first, second, first, second)] == [0] * 4
    assert first.take("a", 1, 4) > 0
    assert second.take("a", 1, 4) > 0
    assert (tmp_path / "limits").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_many_callers_have_buckets_of_their_own():
    clock = Clock()
    limits = Limits(clock=clock)
    names = [f"caller {number}" for number in range(5000)]
    assert not any(limits.take(name, 2, 2) for name in names)
    assert all(limits.take(name, 1, 2) for name in names)
    clock.now += 61
    assert not any(limits.take(f"later {number}", 1, 1) for number in range(5000))
