"""The page of a report in a browser: what a reader sees, hears from the keyboard, and prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.slow.chromium import Browser, installed
from tests.unit.report.sample import DOCUMENT, METHODS

from peftlab.report import html
from peftlab.report.drawing.drawn import draw_all

pytestmark = pytest.mark.slow
COLUMN = "[...document.querySelectorAll('#table-scores tbody tr')].map(row => row.cells[{}].textContent)"
SORTS = "[...document.querySelectorAll('#table-scores thead th')].map(heading => heading.getAttribute('aria-sort'))"


@pytest.fixture(scope="module")
def drawn():
    return draw_all(DOCUMENT)


@pytest.fixture(scope="module")
def file(drawn, tmp_path_factory) -> Path:
    return html.write(DOCUMENT, tmp_path_factory.mktemp("page"), drawn)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (program := installed()):
        pytest.skip("no Chromium is installed: `apt-get install chromium`")
    with Browser(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, file):
    browser.resize(1280)
    browser.open(file)
    browser.evaluate("localStorage.clear()")
    browser.open(file)
    return browser


def middle(page: Browser, selector: str) -> tuple[float, float]:
    """Scroll an element into the window, and return where its middle is."""
    box = page.evaluate(
        f"(async () => {{ const e = document.querySelector({selector!r});"
        "e.scrollIntoView({block: 'center', behavior: 'instant'});"
        "for (const _ of [1, 2]) await new Promise(requestAnimationFrame);"
        "const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })()"
    )
    return box[0], box[1]


def test_it_asks_for_nothing_and_complains_of_nothing(page, file):
    for dark in (False, True):
        page.resize(1280, dark=dark)
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.click(*middle(page, "#theme"))
    page.move(*middle(page, "#figure-seeds .mark"))
    assert page.complaints() == []
    assert page.requests() == [file.as_uri()]


def test_what_strangers_write_and_what_is_slipped_in_does_not_run(page, file, tmp_path):
    assert page.evaluate("document.title") == DOCUMENT.title
    changed = file.read_text(encoding="utf-8").replace(
        "<main", '<img src="https://example.org/x.png"><script>document.title = "run"</script><main', 1
    )
    other = tmp_path / "changed.html"
    other.write_text(changed, encoding="utf-8")
    page.open(other)
    assert page.evaluate("document.title") == DOCUMENT.title
    assert sum("Content Security Policy" in complaint for complaint in page.complaints()) >= 2
    assert "csp" in [event["params"].get("blockedReason") for event in page.events]


def test_tables_sort_by_the_pointer_and_by_the_keyboard(page):
    assert page.evaluate(SORTS) == [None] * 6
    page.click(*middle(page, "#table-scores thead th:nth-child(4) button"))
    numbers = [int(text.replace(",", "")) for text in page.evaluate(COLUMN.format(3))]
    assert numbers == sorted(numbers, reverse=True)
    assert page.evaluate(SORTS)[3] == "descending"
    page.press("Enter")  # the button has the focus
    numbers = [int(text.replace(",", "")) for text in page.evaluate(COLUMN.format(3))]
    assert numbers == sorted(numbers)
    assert page.evaluate(SORTS) == [None, None, None, "ascending", None, None]
    page.press("Tab")
    page.press("Enter")
    assert page.evaluate(SORTS)[4] == "descending"
    times = page.evaluate(COLUMN.format(4))
    assert times[-1] == "unknown"
    assert [float(text) for text in times[:-1]] == sorted((float(text) for text in times[:-1]), reverse=True)
    page.press("Enter")
    assert page.evaluate(COLUMN.format(4))[-1] == "unknown"
    page.click(*middle(page, "#table-scores thead th:nth-child(1) button"))
    names = page.evaluate(COLUMN.format(0))
    assert [name for name in names if name in METHODS] == sorted(name for name in METHODS if name != "head only")


def test_marks_show_their_value_where_the_pointer_is_near(page):
    x, y = middle(page, "#figure-seeds .mark")
    page.move(x + 6, y + 2)
    assert page.evaluate("document.getElementById('tip').hidden") is False
    assert re.fullmatch(r"full, seed \d: 9\d\.\d\d %", page.evaluate("document.getElementById('tip').textContent"))
    page.move(2, 2)
    assert page.evaluate("document.getElementById('tip').hidden") is True


def test_the_reader_chooses_light_or_dark_and_figures_follow(page, file):
    mark = "getComputedStyle(document.querySelector('#figure-importance .mark path')).fill"
    page.resize(1280, dark=False)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor"), page.evaluate(mark)
    page.resize(1280, dark=True)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor"), page.evaluate(mark)
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    page.evaluate("document.getElementById('theme').click()")
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor"), page.evaluate(mark)) == light
    page.evaluate("document.getElementById('theme').click()")
    page.resize(1280, dark=False)
    page.open(file)  # the choice is remembered
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor"), page.evaluate(mark)) == dark
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate("document.documentElement.dataset.theme") is None


def test_what_scrolls_can_be_scrolled_by_the_keyboard(page):
    page.evaluate("document.querySelector('.checklist').open = true")
    boxes = "[...document.querySelectorAll('.scroll, pre')]"
    for width in (360, 1280):
        page.resize(width)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate(f"{boxes}.every(e => (e.tabIndex === 0) === (e.scrollWidth > e.clientWidth))")
    assert page.evaluate("document.querySelector('#figure-seeds .scroll').tabIndex") == -1


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_nothing_is_wider_than_the_window(page, width):
    page.resize(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll')"
    wide += " && e.scrollWidth > e.clientWidth + 1"
    wide += " && getComputedStyle(e).display !== 'inline' && getComputedStyle(e).overflowX === 'visible').length"
    assert page.evaluate(wide) == 0


def test_it_prints_with_everything_open(page, tmp_path):
    assert page.evaluate("document.querySelector('.checklist').open") is False
    page.print(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    page.resize(800, media="print")
    shown = "getComputedStyle(document.querySelector({!r})).display"
    assert page.evaluate(shown.format("nav")) == page.evaluate(shown.format("#theme")) == "none"
    assert page.evaluate("document.querySelector('.checklist table').getBoundingClientRect().height") > 50
    page.resize(800)
    assert page.evaluate("document.querySelector('.checklist').open") is False


def test_pictures_can_be_looked_at(page, file):
    """Write what a person should look at beside the page: the test only asks that no picture is empty."""
    for name, width, dark in (("wide", 1280, False), ("dark", 1280, True), ("narrow", 360, False)):
        page.resize(width, dark=dark)
        picture = file.with_name(f"{name}.png")
        page.screenshot(picture)
        assert picture.stat().st_size > 50_000


@pytest.mark.exhaustive
def test_drawing_needs_no_pyplot_and_a_page_no_drawing():
    code = (
        "import sys, peftlab.report.html, peftlab.report.drawing.drawn as drawn\n"
        "from peftlab.report.document import Figure\n"
        "assert not {'matplotlib', 'jinja2', 'pydantic', 'torch'} & set(sys.modules)\n"
        "drawn.draw(Figure('a', 'importance', {'shares': [{'label': 'a', 'share': 0.5}]}, ''))\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
