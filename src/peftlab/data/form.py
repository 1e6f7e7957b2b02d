"""The form of a data set's examples: inputs to predict must have the form of the training examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from peftlab.errors import DataError


@dataclass(frozen=True, slots=True)
class Form:
    """The texts of an example and their names in the data set."""

    text: str | None = None
    """The data set's name of the text, besides ``text``; None: it has none."""
    pair: str | None = None
    """Its name of the second text of a pair, besides ``text_pair``."""
    pairs: bool | None = None
    """Whether its examples are pairs; None: unknown."""
    asked: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    """Renames what the data set names otherwise, see `RowReader.asked`."""

    def usual(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return `fields` with the texts under the names that tasks use, ``text`` and ``text_pair``.

        Raises:
            DataError: it is a pair but the data has single texts, or the other way round; or a value is not what it
                must be.
        """
        fields = self.asked(fields)
        texts = {"text": _either(fields, "text", self.text), "text_pair": _either(fields, "text_pair", self.pair)}
        if self.pairs and None in texts.values():
            first, second = _named("text", self.text), _named("text_pair", self.pair)
            raise DataError(
                f"this run takes pairs of texts: expected an object with {first} and {second}, both strings"
            )
        if self.pairs is False and texts["text_pair"] is not None:
            raise DataError("this run takes single texts, no pairs: leave `text_pair` out")
        return {**fields, **{key: text for key, text in texts.items() if text is not None}}


def form_of(format: Any) -> Form:
    """Return the form of the examples that `format`, an object of the section ``data.format``, reads.

    The attribute ``pair`` of a format, or of its row reader, says whether it reads pairs; ``text`` and ``pair`` give
    the names.
    """
    columns = columns_of(format)
    text, pair = getattr(columns, "text", None), getattr(columns, "pair", None)
    return Form(
        text if isinstance(text, str) and text != "auto" else None,
        pair if isinstance(pair, str) else None,
        pair is not None if hasattr(columns, "pair") else None,
        getattr(columns, "asked", dict),
    )


def has_groups(format: Any) -> bool:
    """Return whether the format gives each example a group, which is held out as a whole: one that it reads from a
    column ``group``, or, if its attribute ``groups`` or ``documents`` says so, one of its own."""
    columns = columns_of(format)
    own = getattr(columns, "groups", False) or getattr(columns, "documents", False)
    return getattr(columns, "group", None) is not None or bool(own)


def has_histories(format: Any) -> bool:
    """Return whether an example is read as a part of later ones of its group, too."""
    return bool(getattr(columns_of(format), "histories", False))


def weight_of(format: Any) -> str | int | None:
    """Return the column that the format reads the weights of examples from; None: it reads none."""
    column: str | int | None = getattr(columns_of(format), "weight", None)
    return column


def columns_of(format: Any) -> Any:
    """Return what names the columns: the row reader of a format that has one, else the format itself."""
    return getattr(format, "rows", format)


def _either(fields: Mapping[str, Any], usual: str, own: str | None) -> Any:
    """Return the value under the data set's own key, else under the usual one.

    Raises:
        DataError: both are present and differ.
    """
    if own is None or own == usual or own not in fields:
        return fields.get(usual)
    if usual in fields and fields[usual] != fields[own]:
        raise DataError(f"`{own}`, as this run calls it, and `{usual}` differ: leave one of them out")
    return fields[own]


def _named(usual: str, own: str | None) -> str:
    return f"`{usual}`" if own in (None, usual) else f"`{usual}` (or `{own}`)"
