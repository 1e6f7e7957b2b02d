"""What can be chosen of the section ``out_of_scope``."""

from __future__ import annotations

import pytest

from peftlab.abstaining.spec import OutOfScope


@pytest.mark.parametrize(
    ("score", "inside", "outside"),
    [
        ("energy", [-9.0, 0.0, 9.0], []),
        ("msp", [0.5, 1.0], [0.0, 1.01, 90.0]),
        ("knn", [-1.9, 0.0], [-2.0, 0.5]),
        ("mahalanobis", [-900.0, 0.0], [0.5]),
    ],
)
def test_a_threshold_has_scores_on_both_sides(score, inside, outside):
    assert [OutOfScope(score=score, threshold=value).threshold for value in inside] == inside
    for value in outside:
        with pytest.raises(ValueError, match=f"threshold={value:g}: scores of {score} are above"):
            OutOfScope(score=score, threshold=str(value))
