from __future__ import annotations

import pytest

from peftlab.report.document import Figure
from peftlab.report.drawing.drawn import draw

pytestmark = pytest.mark.slow


def test_a_legend_is_never_larger_than_the_plot():
    for number, is_named in ((4, True), (16, False)):
        names = [f"a method with a rather long name {one}" for one in range(number)]
        points = [{"x": 1.0, "y": float(place), "label": name} for place, name in enumerate(names)]
        svg = draw(Figure("some", "slices", {"x": {"label": "x"}, "y": {"label": "y"}, "points": points}, "")).svg
        assert (f"{number} series, not told apart" in svg) is not is_named
