from __future__ import annotations

import itertools

import numpy as np
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


VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What readers see of linear light (Machado, Oliveira and Fernandes 2009)."""
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def seen(colour: str, vision: str) -> np.ndarray:
    """In CIELAB, where distances are differences that are seen."""
    channels = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    light = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    relative = XYZ @ np.clip(VISIONS[vision] @ light, 0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("mode", ["paper", "dark"])
def test_series_are_told_apart_with_any_colour_vision(mode):
    for vision in VISIONS:
        colours = [seen(getattr(colour, mode), vision) for colour in SERIES]
        distances = [np.linalg.norm(first - second) for first, second in itertools.combinations(colours, 2)]
        assert min(distances) > 18, vision


@pytest.mark.parametrize("mode", ["paper", "dark"])
def test_numbers_are_read_on_the_colours_that_have_them(mode):
    assert all(contrast(getattr(SERIES[index], mode), getattr(PAPER, mode)) >= 4.5 for index in (0, 1, 7))


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
