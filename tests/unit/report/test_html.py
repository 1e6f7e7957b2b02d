from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.unit.report.sample import DOCUMENT, FIGURES, HOSTILE, METHODS, table

from peftlab.report import html
from peftlab.report.document import Cell, Column, Document, Paragraph, Section, Table
from peftlab.report.drawing.drawn import Drawn, figures_of

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Parsed(HTMLParser):
    """The elements of a page, in order, each with its attributes; texts apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def drawn():
    """Stand-ins: what is drawn has tests of its own."""
    svg = '<svg viewBox="0 0 1 1" role="img"><title>a</title><path d="M 0 0" class="mark"><title>b</title></path></svg>'
    return {one.name: Drawn(one.name, svg, svg, ("a value", HOSTILE), None) for one in figures_of(DOCUMENT.sections)}


@pytest.fixture(scope="module")
def text(drawn):
    return html.page(DOCUMENT, drawn)


@pytest.fixture(scope="module")
def page(text):
    return Parsed(text)


def test_every_element_is_closed_and_every_link_leads_somewhere(page):
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in page.of("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert {f"section-{name}" for name in ("summary", "scores", "training", "checklist")} <= set(ids)


def test_nothing_is_loaded_and_nothing_but_the_pages_own_script_runs(page, text):
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "form", "video", "audio", "image"}
    assert not any(re.search("https?:|url\\(|@import", part) for part in re.findall("<style>(.*?)</style>", text, re.S))
    assert not any("src" in attributes or "style" in attributes for _, attributes in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    (policy,) = [one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_texts_of_strangers_stay_texts(page, text):
    assert len(page.of("script")) == 1
    assert "<script>alert" not in text
    assert any("<script>alert(1)</script> & $x^2$" in part for part in page.texts)
    assert not re.search("[\x00-\x08\u202e]", text)


def test_numbers_sort_by_their_value_and_only_the_strong_are_bold(page, text):
    cells = [one for tag, one in page.elements if tag in ("td", "th")]
    assert {"107719689", "0.9124"} <= {one.get("data-value") for one in cells}
    assert len(page.of("strong")) == 1
    assert "<strong>91.24</strong>" in text
    assert ">unknown</td>" in text


def test_parts_are_numbered_in_the_order_of_the_page(page):
    joined = " ".join(page.texts)
    assert re.findall(r"Figure (\d+)\.", joined) == [str(number + 1) for number in range(len(FIGURES))]
    assert "Table 1." in joined


def test_checklists_say_how_often_each_answer_is_given(page):
    assert "1 yes, 1 unknown, 1 partly, 1 not applicable" in page.texts


def test_all_that_the_document_says_is_there(page):
    joined = "".join(page.texts)
    for words in (DOCUMENT.title, DOCUMENT.subtitle, *METHODS[:5], "unequal_budget", "error", "Is the code public?"):
        assert words in joined
    assert "peftlab reproduce sweeps/ner/3f2a9c1d0b7e\npython -m train" in joined


def test_the_same_document_gives_the_same_bytes(text, drawn, tmp_path):
    file = html.write(DOCUMENT, tmp_path / "new", drawn)
    assert file == tmp_path / "new" / "report.html"
    assert file.read_text(encoding="utf-8") == text


def test_names_that_cannot_be_links_are_refused():
    section = Section("a", "A", (table(), table()))
    with pytest.raises(ValueError, match="tables of a report have a name each"):
        html.page(Document("", "", (section,)), {})
    with pytest.raises(ValueError, match="sections of a report"):
        html.page(Document("", "", (Section('"><script>', "A"),)), {})


def test_the_least_that_a_document_can_be():
    empty = Table("t", (Column("A"),), (), "None.")
    text = html.page(Document("T", "", (Section("a", "A", (empty, Paragraph(""))),)), {})
    assert Parsed(text).open == []
    row = replace(empty, rows=((Cell("", None),),))
    assert (
        "data-value"
        not in html.page(Document("T", "", (Section("a", "A", (row,)),)), {})
        .partition("<main")[2]
        .partition("</main")[0]
    )
