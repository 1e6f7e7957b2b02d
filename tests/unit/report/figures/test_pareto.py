from __future__ import annotations

import itertools
import random
import re

import pytest

from peftlab.report.document import Figure
from peftlab.report.drawing.drawn import draw
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


def drawn(points):
    axis = {"label": "x"}
    picture = draw(Figure("some", "pareto", {"x": axis, "y": axis, "points": points}, ""))
    return picture, re.findall("<text[^>]*>([^<]+)</text>", picture.svg)


@pytest.mark.slow
def test_names_do_not_lie_on_each_other_and_of_many_points_only_the_front_is_named():
    points = [{"label": f"front {number}", "x": 10.0**number, "y": {"value": 0.7 + number / 50}} for number in range(5)]
    points += [{"label": f"name {number}", "x": 9e4, "y": {"value": 0.5 + number / 1e4}} for number in range(40)]
    for number, named in ((9, range(1, 5)), (40, range(0, 1))):
        picture, texts = drawn(points[: 5 + number])
        assert all(f"front {number}" in texts for number in range(5))
        assert sum(text.startswith("name ") for text in texts) in named
        assert len(picture.values) == 5 + number


@pytest.mark.slow
def test_a_point_far_from_the_rest_stands_at_the_edge_and_is_said():
    points = [{"label": f"name {number}", "x": number + 1.0, "y": {"value": 70.0 + number % 4}} for number in range(20)]
    picture, texts = drawn([*points, {"label": "far", "x": 9.0, "y": {"value": 1.0}}])
    assert "Beyond the axis, at its edge: far 1" in texts
    assert len(picture.values) == 21
    assert not {"0", "40", "60"} & set(texts)
