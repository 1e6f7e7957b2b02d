from __future__ import annotations

import itertools
import random

from peftlab.report.drawing.quantities import Axis, Interval
from peftlab.report.figures.pareto import Data, Point, front


def data(points, better="max"):
    axis = Axis(label="")
    return Data(x=axis, y=axis, better=better, points=[Point(label="", x=x, y=Interval(value=y)) for x, y in points])


def test_the_front_is_the_points_that_no_other_beats():
    source = random.Random(1)
    for better in ("max", "min"):
        for _ in range(50):
            points = [(source.randrange(6), source.randrange(6)) for _ in range(8)]
            sign = 1 if better == "max" else -1
            unbeaten = {
                (x, y)
                for x, y in points
                if not any(a <= x and sign * b >= sign * y and (a, b) != (x, y) for a, b in points)
            }
            shown = [(point.x, point.y.value) for point in front(data(points, better))]
            assert set(shown) == unbeaten
            assert all(first[0] < second[0] for first, second in itertools.pairwise(shown))
