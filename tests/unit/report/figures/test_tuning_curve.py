from __future__ import annotations

import pytest

from peftlab.report.document import Figure
from peftlab.report.drawing.drawn import draw

pytestmark = pytest.mark.slow


def drawn(low, high):
    series = {"label": "a", "budget": [1, 2], "best": [0.5, 0.7], "low": low, "high": high}
    return draw(Figure("some", "tuning_curve", {"y": {"label": "F1"}, "series": [series]}, "")).svg


def test_bands_that_span_the_axis_are_said_and_not_drawn():
    assert "Not drawn: bands" in drawn([None, None], [None, None])
    assert "Not drawn: bands" not in drawn([0.4, 0.65], [0.6, 0.8])
