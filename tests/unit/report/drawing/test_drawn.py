from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest
from tests.unit.report.sample import DOCUMENT, FIGURES, HOSTILE, figure

from peftlab.report.document import Figure
from peftlab.report.drawing.drawn import draw, draw_all, figures_of
from peftlab.report.drawing.palette import COLOURS


@pytest.fixture(scope="module")
def seeds():
    return draw(figure("seeds"))


@pytest.mark.slow
def test_the_same_data_give_the_same_bytes(seeds, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    seeds.write(first)
    draw(figure("seeds")).write(second)
    names = {file.name for file in first.iterdir()}
    assert names == {"seeds.svg", "seeds.pdf", "seeds.png"}
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert (first / "seeds.pdf").read_bytes().startswith(b"%PDF")
    assert b"/Type3" not in (first / "seeds.pdf").read_bytes()
    assert (first / "seeds.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_settings_of_the_user_change_nothing_and_stay(seeds):
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert draw(figure("seeds")).svg == seeds.svg
        assert dict(matplotlib.rcParams) == before


def test_names_of_strangers_are_texts_and_never_formulas_or_markup(seeds):
    root = ElementTree.fromstring(seeds.svg)
    texts = [text for element in root.iter() for text in [element.text] if text and "script" in text]
    assert any(text.startswith("<script>alert(1)</script> & $x^2$") for text in texts)
    assert "<script" not in seeds.svg + seeds.page
    assert not re.search("[\x00-\x09\u202e]", seeds.svg + seeds.page)
    assert any(HOSTILE[:20] in value for value in seeds.values)


@pytest.mark.slow
def test_several_pictures_share_a_page():
    first = draw(figure("seeds"))
    second = draw(replace(figure("seeds"), name="again"))
    ids = [re.findall(r' id="([^"]+)"', drawn.page) for drawn in (first, second)]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])


def test_pictures_are_named_for_those_who_do_not_see_them(seeds):
    root = ElementTree.fromstring(seeds.svg)
    named = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    title, description = (named[name] for name in root.attrib["aria-labelledby"].split())
    assert root.attrib["role"] == "img"
    assert title == "What seeds looks like."
    assert "lora, seed 3: " in description


def test_a_wrong_kind_and_wrong_data_are_refused_by_name():
    with pytest.raises(ValueError, match=r"figure 'x': there is no kind 'paretto'. Did you mean 'pareto'"):
        draw(Figure("x", "paretto", {}, ""))
    with pytest.raises(ValueError, match=r"figure 'x' \(pareto\): points.0.x: "):
        draw(Figure("x", "pareto", {**FIGURES["pareto"], "points": [{"label": "a", "x": "b", "y": {"value": 1}}]}, ""))
    with pytest.raises(ValueError, match="finite"):
        draw(Figure("x", "importance", {"shares": [{"label": "a", "share": float("nan")}]}, ""))
    with pytest.raises(ValueError, match="colour"):
        draw(Figure("x", "importance", {"shares": [], "colour": "red"}, ""))


def test_figures_are_those_of_all_sections():
    assert sorted(one.kind for one in figures_of(DOCUMENT.sections)) == sorted(FIGURES)
    assert draw_all(replace(DOCUMENT, sections=())) == {}


def test_every_colour_of_paper_is_a_variable_of_the_page(seeds):
    assert "var(--series-1)" in seeds.page
    assert not re.findall("#[0-9a-f]{6}", seeds.page)
    assert set(re.findall("#[0-9a-f]{6}", seeds.svg)) <= {colour.paper for colour in COLOURS}
