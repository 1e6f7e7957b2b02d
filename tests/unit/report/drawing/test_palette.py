from __future__ import annotations

import itertools

import pytest

from peftlab.report.drawing.palette import BAD, COLOURS, GOOD, INK, MUTED, PAPER, SERIES, WARN, style


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """Of WCAG 2.2."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", ["paper", "dark"])
def test_text_and_marks_stand_out_from_the_background(mode):
    background = getattr(PAPER, mode)
    assert all(contrast(getattr(colour, mode), background) >= 4.5 for colour in (INK, MUTED, GOOD, WARN, BAD))
    assert all(contrast(getattr(colour, mode), background) >= 3 for colour in SERIES)


def test_each_colour_of_paper_becomes_its_own_variable():
    assert len({colour.paper for colour in COLOURS}) == len({colour.name for colour in COLOURS}) == len(COLOURS)


def test_no_two_of_many_series_look_alike():
    styles = [style(index) for index in range(32)]
    assert all(first != second for first, second in itertools.combinations(styles, 2))
    assert len({one.marker for one in styles[:8]}) == len({one.colour for one in styles[:8]}) == 8
