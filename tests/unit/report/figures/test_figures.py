"""What holds for every kind of figure: the folder says which there are."""

from __future__ import annotations

import importlib
import re
from copy import deepcopy
from xml.etree import ElementTree

import pytest
from tests.unit.report.sample import FIGURES, figure

from peftlab.report import figures
from peftlab.report.document import Figure
from peftlab.report.drawing.drawn import draw, kinds

MARKS = {
    "learning_curves": 80,
    "pareto": 8,
    "seeds": 48,
    "tuning_curve": 48,
    "importance": 4,
    "slices": 20,
    "abstention": 11,
    "confusion": 9,
    "per_type": 12,
    "reliability": 12,
    "robustness": 6,
    "roc": 6,
    "explanation": 6,
    "fairness": 6,
    "differences": 4,
    "variance": 12,
    "shares_over_time": 38,
}
"""Values that the sample of each kind shows."""
LEAST = {
    "learning_curves": {"series": [{"label": "a", "x": [1.0], "mean": [None]}]},
    "pareto": {"points": [{"label": "a", "x": 0.0, "y": {"value": 0.5}}]},
    "seeds": {"groups": [{"label": "a", "seeds": []}]},
    "tuning_curve": {"series": [{"label": "a", "budget": [1], "best": [0.5], "low": [None], "high": [None]}]},
    "importance": {"shares": [{"label": "a", "share": 0.0}]},
    "slices": {"points": [{"x": "a", "y": 0.5}, {"x": 1, "y": 0.5}]},
    "abstention": {"points": [{"threshold": 0.0, "answered": 1.0, "asked": 0.0, "escalated": 0.0}]},
    "confusion": {"labels": ["a"], "counts": [[0]]},
    "per_type": {"series": [{"label": "a", "types": [{"type": "x", "score": {"value": 0.5}}]}]},
    "reliability": {"series": [{"label": "a", "ece": 0.0, "bins": [{"low": 0.0, "high": 1.0, "number": 0}]}]},
    "robustness": {"series": [{"label": "a", "slices": []}]},
    "roc": {"series": [{"label": "a", "x": [0.0, 1.0], "y": [0.0, 1.0]}]},
    "explanation": {"series": [{"label": "a", "explainers": []}]},
    "fairness": {"groups": [{"label": "a", "metrics": []}]},
    "differences": {"margin": None, "rows": [{"label": "a", "difference": {"value": 0.0}}]},
    "variance": {"rows": [{"label": "a", "seed": 0.0}]},
    "shares_over_time": {"windows": [], "baseline": (0, 0), "series": []},
}
"""The least that each kind is handed."""


def test_the_folder_is_what_there_is():
    assert set(kinds()) == set(FIGURES) == set(MARKS) == set(LEAST)


@pytest.fixture(scope="module", params=kinds())
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def drawn(kind):
    return draw(figure(kind))


def test_it_says_what_it_shows_and_wants(kind):
    module = importlib.import_module(f"{figures.__name__}.{kind}")
    assert module.__doc__
    assert module.Data.__doc__


@pytest.mark.one_in(12, "slow")
def test_every_mark_shows_its_value(kind, drawn):
    root = ElementTree.fromstring(drawn.svg)
    titles = [mark.find("{*}title").text for mark in root.iter() if mark.get("class") == "mark"]
    assert tuple(titles) == drawn.values
    assert len(titles) == MARKS[kind]


@pytest.mark.one_in(4, "slow")
def test_its_colours_are_the_palettes_and_its_styles_attributes(drawn):
    assert not re.findall("#[0-9a-fA-F]{3,8}\\b|rgb|style=|<style", drawn.page)


@pytest.mark.one_in(3, "slow")
def test_it_draws_the_least_there_can_be(kind):
    draw(Figure("least", kind, deepcopy(FIGURES[kind]) | LEAST[kind], ""))


@pytest.mark.slow
def test_it_draws_nothing_where_there_is_nothing(kind):
    draw(Figure("nothing", kind, {key: [] if isinstance(old, list) else old for key, old in FIGURES[kind].items()}, ""))
