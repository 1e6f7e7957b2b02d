"""What the examples of a data set are made of: what is predicted has to be of the form of what was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peftlab.errors import DataError


@dataclass(frozen=True, slots=True)
class Form:
    """The texts of an example, and what the data set calls them."""

    text: str | None = None
    """The data set's name of the text, beside ``text``; None: it has none."""
    pair: str | None = None
    """Its name of the second text of a pair, beside ``text_pair``."""
    pairs: bool | None = None
    """Whether its examples are pairs; None: that is not known."""

    def usual(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return an object with its texts under the names that tasks know, ``text`` and ``text_pair``.

        Raises:
            DataError: it is a pair where the data has single texts, or the other way round.
        """
        texts = {"text": _either(given, "text", self.text), "text_pair": _either(given, "text_pair", self.pair)}
        if self.pairs and None in texts.values():
            first, second = _named("text", self.text), _named("text_pair", self.pair)
            raise DataError(
                f"this run takes pairs of texts: expected an object with {first} and {second}, both strings"
            )
        if self.pairs is False and texts["text_pair"] is not None:
            raise DataError("this run takes single texts, no pairs: leave `text_pair` out")
        return {**given, **{key: text for key, text in texts.items() if text is not None}}


def form_of(format: Any) -> Form:
    """Return the form of the examples that `format`, an object of the section ``data.format``, reads.

    A format says with an attribute ``pair`` whether it reads pairs, and with that and ``text`` by which name.
    """
    text, pair = getattr(format, "text", None), getattr(format, "pair", None)
    return Form(
        text if isinstance(text, str) and text != "auto" else None,
        pair if isinstance(pair, str) else None,
        pair is not None if hasattr(format, "pair") else None,
    )


def _either(given: Mapping[str, Any], usual: str, own: str | None) -> Any:
    """Return the value of the key that the data set has for it, else of the usual one.

    Raises:
        DataError: both are there, and differ.
    """
    if own is None or own == usual or own not in given:
        return given.get(usual)
    if usual in given and given[usual] != given[own]:
        raise DataError(f"`{own}`, as this run calls it, and `{usual}` differ: leave one of them out")
    return given[own]


def _named(usual: str, own: str | None) -> str:
    return f"`{usual}`" if own in (None, usual) else f"`{usual}` (or `{own}`)"
