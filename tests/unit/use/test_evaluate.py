from __future__ import annotations

from peftlab.use.evaluate import Score, _not_compared


class Named(str):
    """A name that counts how often it is compared."""

    times = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Named.times += 1
        return str.__eq__(self, other)


def test_what_has_no_counterpart_is_found_without_comparing_all_scores_with_all():
    now = [Score(Named(f"f1/{number}"), "test", "a scorer", 0.5, None) for number in range(200)]
    recorded = [("test", Named(f"f1/{number}"), "a scorer") for number in range(1, 201)]
    assert list(_not_compared(now, recorded)) == [
        "only in the record: test f1/200, by the scorer 'a scorer'",
        "not in the record: test f1/0, by the scorer 'a scorer'",
    ]
    assert Named.times < 10 * len(now)
