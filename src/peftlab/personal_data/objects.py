"""Masks what JSON has: every text in an object, and the places in texts that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peftlab.personal_data.masked import Mask, Masked, masked_words

MaskOf = Callable[[str], Mask]
"""Returns what masks the texts under a key."""


def masked_object(value: Any, mask_of: MaskOf, key: str = "", context: Masked | None = None) -> Any:
    """Return a value of JSON with every text in it masked; keys and numbers stay.

    A list of texts is one of words, see `masked_words`. In an object, places move with their text: ``head`` and
    ``tail``, each ``[start, end]``, with ``text``; and those of answers, ``answer_start`` beside ``text``, with the
    ``context`` that stands in the object or around it.

    Args:
        value: the value.
        mask_of: returns what masks the texts under a key of an object.
        key: the key that `value` stands under.
        context: the text that answers in `value` are part of.
    """
    if isinstance(value, str):
        return mask_of(key)(value).text
    if isinstance(value, list | tuple):
        if value and all(isinstance(each, str) for each in value):
            return masked_words(mask_of(key), value)
        return [masked_object(each, mask_of, key, context) for each in value]
    if not isinstance(value, Mapping):
        return value
    answer = None if context is None or "answer_start" not in value else _answer(value, context)
    texts = {name: mask_of(name)(each) for name, each in value.items() if isinstance(each, str) and answer is None}
    inner = texts.get("context", context)
    result: dict[Any, Any] = {}
    for name, each in value.items():
        if answer is not None and name in answer:
            result[name] = answer[name]
        elif name in texts:
            result[name] = texts[name].text
        elif name in ("head", "tail") and "text" in texts and _is_slice(each):
            result[name] = list(texts["text"].moved(*each))
        else:
            result[name] = masked_object(each, mask_of, str(name), inner)
    return result


def _answer(value: Mapping[str, Any], context: Masked) -> dict[str, Any] | None:
    """Return text and start of an answer, or lists of them, where they have moved to; None: they are not what they
    should be, or a start is left open."""
    text, start = value.get("text"), value["answer_start"]
    if isinstance(text, str) and _is_whole(start):
        first, last = context.moved(start, start + len(text))
        return {"text": context.text[first:last], "answer_start": first}
    if not (isinstance(text, list) and isinstance(start, list) and len(text) == len(start)):
        return None
    each = [_answer({"text": one, "answer_start": place}, context) for one, place in zip(text, start, strict=True)]
    if any(one is None for one in each):
        return None
    return {key: [one[key] for one in each if one is not None] for key in ("text", "answer_start")}


def _is_slice(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
