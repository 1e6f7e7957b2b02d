"""From matplotlib's SVG to that of a page: no style of its own, colours as variables, values at its marks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from peftlab.report.drawing.palette import COLOURS

FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
"""The fonts of a file, which has no page around it. All are narrower than the one that the picture is laid out with."""
SHAPES = ("path", "use")


@dataclass(frozen=True)
class Named:
    """What a picture is called, for readers who do not see it."""

    name: str
    title: str
    description: str


def tidied(text: str, named: Named, marks: Mapping[str, tuple[str, ...]]) -> Element:
    """Return the root of matplotlib's SVG, tidied.

    Styles become attributes, which a page that forbids inline styles shows; names of elements start with the picture's,
    so that several pictures share a page; and each mark has a ``<title>``.

    Raises:
        ValueError: a mark has another number of shapes than of texts, as where a point lies outside the axes.
    """
    root = ElementTree.fromstring(text.partition("<svg")[1] + text.partition("<svg")[2])  # noqa: S314 - what matplotlib has written just now
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        attributes |= _attributes(attributes.pop("style", ""))
        element.attrib.clear()
        element.attrib.update({key: _renamed(key, value, named.name) for key, value in attributes.items()})
        element.tail = None
        if element.text and not element.text.strip():
            element.text = None
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "metadata" or (child.tag == "defs" and child.find("style") is not None):
                parent.remove(child)
    elements = {element.get("id"): element for element in root.iter()}
    for mark, texts in marks.items():
        _show(elements[f"{named.name}-{mark}"], texts)
    _clean(root, used={value for element in root.iter() for value in _references(element)})
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib |= {
        "viewBox": box, "role": "img", "aria-labelledby": f"{named.name}-title {named.name}-description",
        "stroke-linejoin": "round",
    }  # fmt: skip
    for place, (tag, words) in enumerate((("title", named.title), ("desc", named.description))):
        child = Element(tag, {"id": f"{named.name}-{'title' if tag == 'title' else 'description'}"})
        child.text = words
        root.insert(place, child)
    return root


def inline(root: Element) -> str:
    """Return the SVG for a page: its colours are the page's variables."""
    text = ElementTree.tostring(root, encoding="unicode")
    for colour in COLOURS:
        text = text.replace(f'"{colour.paper}"', f'"var(--{colour.name})"')
    return text


def alone(root: Element) -> str:
    """Return the SVG for a file, in the colours of paper."""
    width, height = root.attrib["viewBox"].split()[2:]
    attributes = {"xmlns": "http://www.w3.org/2000/svg", "width": f"{width}pt", "height": f"{height}pt"}
    own = Element("svg", attributes | root.attrib | {"font-family": FONTS})
    own.extend(root)
    return ElementTree.tostring(own, encoding="unicode") + "\n"


def _local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]


def _attributes(style: str) -> dict[str, str]:
    """Return the declarations of an inline style as attributes of SVG. The font is the page's; its size stays."""
    pairs = (part.partition(":") for part in style.split(";") if part.strip())
    values = {key.strip(): value.strip() for key, _, value in pairs}
    if short := re.match(r"(?:(\d+|bold) )?([\d.]+px)", values.pop("font", "")):  # as matplotlib before 3.10 writes it
        values |= {"font-size": short[2]} | ({"font-weight": short[1]} if short[1] else {})
    values.pop("font-family", None)
    return values


def _renamed(key: str, value: str, name: str) -> str:
    """Return a value in which the names of elements start with `name`, and long numbers are rounded."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key == "clip-path":
        return value.replace("url(#", f"url(#{name}-")
    if key in ("d", "x", "y", "width", "height", "transform"):
        rounded = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
        return re.sub(r"\s+", " ", rounded).strip()
    return value


def _show(mark: Element, texts: tuple[str, ...]) -> None:
    """Give a mark, or each of its shapes, the text that it shows."""
    shapes = _shapes(mark)
    if len(texts) == 1:
        shapes = [mark]
    elif len(shapes) != len(texts):
        raise ValueError(f"{mark.get('id')}: {len(texts)} texts for {len(shapes)} shapes")
    for shape, words in zip(shapes, texts, strict=True):
        title = Element("title")
        title.text = words
        shape.insert(0, title)
        shape.set("class", "mark")


def _shapes(mark: Element) -> list[Element]:
    """Return the shapes that are drawn below a mark, definitions apart."""
    defined = {id(shape) for defs in mark.iter("defs") for shape in defs.iter()}
    return [shape for shape in mark.iter() if shape.tag in SHAPES and id(shape) not in defined]


def _references(element: Element) -> list[str]:
    """Return the names of the elements that an element refers to."""
    return [element.get("href", "").removeprefix("#"), element.get("clip-path", "")[5:-1]]


def _clean(root: Element, used: set[str]) -> None:
    """Take away names that nothing refers to."""
    for element in root.iter():
        if element.get("id") and element.get("id") not in used:
            del element.attrib["id"]
