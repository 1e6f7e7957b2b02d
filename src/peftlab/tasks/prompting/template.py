"""Templates: how a text is written so that a language model's next word, or the word behind a mask, is its label."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from peftlab.errors import ConfigError

TEXT, PAIR, ANSWER = "text", "pair", "answer"
"""The places of a template: the text, the second text of a pair, and the label's word."""


@dataclass(frozen=True)
class Template:
    """A template, divided at its places."""

    source: str
    """As the configuration has it, such as ``{text} It was {answer}``."""
    parts: tuple[tuple[str, str | None], ...]
    """Literal texts, each with the place that follows it; None at the end."""

    @classmethod
    def read(cls, source: str, is_decoder: bool) -> Template:
        """Return the template in `source`; braces that stand for themselves are doubled.

        Raises:
            ConfigError: it does not have each place as often as it must, or has another; or text follows the answer,
                which a decoder never reads.
        """
        try:
            parts = _joined((literal, place) for literal, place, _, _ in string.Formatter().parse(source))
        except ValueError as error:
            raise ConfigError(f"{_named(source)}: {error}. Write a brace that stands for itself twice") from error
        places = [place for _, place in parts if place is not None]
        if odd := [place for place in places if place not in (TEXT, PAIR, ANSWER)]:
            raise ConfigError(
                f"{_named(source)}: there is no place {{{odd[0]}}}. Allowed: {{text}}, {{pair}}, {{answer}}"
            )
        for place in (TEXT, ANSWER, PAIR):
            if places.count(place) > 1 or (place != PAIR and place not in places):
                raise ConfigError(f"{_named(source)} has {{{place}}} {places.count(place)} times; it must have it once")
        template = cls(source, parts)
        if is_decoder and template.after.strip():
            raise ConfigError(
                f"{_named(source)}: '{template.after.strip()}' follows the answer, and a decoder predicts it from what "
                "comes before. End the template with {answer}"
            )
        return template

    @property
    def has_pair(self) -> bool:
        """Whether it has a place for the second text of a pair."""
        return any(place == PAIR for _, place in self.parts)

    @property
    def begins_with_answer(self) -> bool:
        """Whether the answer is its first place."""
        return self.parts[0][1] == ANSWER

    @property
    def lead(self) -> str:
        """The literal text right before the answer."""
        return next(literal for literal, place in self.parts if place == ANSWER)

    @property
    def after(self) -> str:
        """The literal text right after the answer."""
        places = [place for _, place in self.parts]
        rest = self.parts[places.index(ANSWER) + 1 :]
        return rest[0][0] if rest else ""

    def before_answer(self, text: str, pair: str | None) -> str:
        """Return what stands before the answer, without the spaces at its end: these belong to the word."""
        filled = ""
        for literal, place in self.parts:
            filled += literal
            if place == ANSWER:
                break
            filled += self._value(place, text, pair)
        return filled.rstrip(" ")

    def filled(self, text: str, pair: str | None, answer: str) -> str:
        """Return the whole template with `answer` in its place."""
        values = (
            literal + (answer if place == ANSWER else self._value(place, text, pair)) for literal, place in self.parts
        )
        return "".join(values)

    @staticmethod
    def _value(place: str | None, text: str, pair: str | None) -> str:
        return {TEXT: text, PAIR: pair or ""}.get(place or "", "")


def read_templates(sources: str | Sequence[str], is_decoder: bool) -> list[Template]:
    """Return one or several templates.

    Raises:
        ConfigError: one is not well-formed, there is none, or one is there twice.
    """
    listed = [sources] if isinstance(sources, str) else list(sources)
    if not listed:
        raise ConfigError("task.template is an empty list. Write a template, such as '{text} It was {answer}'")
    if twice := next(_repeated(listed), None):
        raise ConfigError(f"{_named(twice)} is there twice. List each template once")
    return [Template.read(source, is_decoder) for source in listed]


def _joined(parts: Iterable[tuple[str, str | None]]) -> tuple[tuple[str, str | None], ...]:
    """Return parts of which only the last may have no place: a brace that stands for itself ends none."""
    joined, literal = list[tuple[str, str | None]](), ""
    for text, place in parts:
        literal += text
        if place is not None:
            joined.append((literal, place))
            literal = ""
    return (*joined, (literal, None)) if literal else tuple(joined)


def _repeated(listed: Sequence[str]) -> Iterator[str]:
    return (one for n, one in enumerate(listed) if one in listed[:n])


def _named(source: str) -> str:
    return f"task.template '{source}'"
