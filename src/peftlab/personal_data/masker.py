"""Finds personal data in texts, and puts something else in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from peftlab.errors import ConfigError, DataError, did_you_mean
from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import Kind, Slice
from peftlab.personal_data.kinds import kinds
from peftlab.personal_data.masked import Found, Masked
from peftlab.personal_data.objects import masked_object
from peftlab.personal_data.plain_text import plain_text

With = Literal["tag", "surrogate", "refuse"]
"""What stands in place of personal data: its kind, another value in its form, or nothing: the text is refused."""


class Names(Protocol):
    """Finds names."""

    @property
    def digest(self) -> str:
        """Tells apart what may find other names."""

    def __call__(self, texts: Sequence[str], /) -> Sequence[Sequence[Slice]]:
        """Return, for each of some texts, where names stand; without any, get ready to."""


NAME = "name"
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL")
"""The countries whose telephone and identity numbers are looked for, unless others are chosen."""

_TRIES = 200
"""How many surrogates are drawn before one is not found again."""


@dataclass(frozen=True)
class Masker:
    """Masks texts.

    Raises:
        ConfigError: an option is unknown, or needs another or a package.
    """

    kinds: tuple[str, ...] = ()
    """The kinds that are looked for; empty: all, and ``name`` if `names` are given."""
    with_: With = "tag"
    """What stands in place of what is found."""
    key: bytes | None = field(default=None, repr=False)
    """The secret that decides which surrogate a value has."""
    regions: tuple[str, ...] = ()
    """The countries whose forms are looked for, such as ``DE``; empty: `REGIONS`."""
    names: Names | None = field(default=None, repr=False, compare=False)
    """What finds names."""

    def __post_init__(self) -> None:
        """Check the options, and fill in what is left open."""
        known = list(kinds())
        chosen = self.kinds or tuple(kind for kind in known if kind != NAME or self.names is not None)
        for kind in chosen:
            if kind not in known:
                raise ConfigError(
                    f"kinds: there is no kind '{kind}'.{did_you_mean(kind, known)} Expected {', '.join(known)}"
                )
        object.__setattr__(self, "kinds", tuple(kind for kind in known if kind in chosen))
        object.__setattr__(self, "regions", tuple(region.upper() for region in self.regions) or REGIONS)
        if (NAME in self.kinds) != (self.names is not None):
            raise ConfigError(
                "kinds: 'name' and a run that finds names (--names RUN, of a server --mask-names RUN) belong together"
            )
        if (self.with_ == "surrogate") != (self.key is not None):
            raise ConfigError("key: surrogates follow from a key, and nothing else does: give both, or neither")
        for one in self._kinds.values():
            one.check()

    @property
    def has_regions(self) -> bool:
        """Whether what is found depends on the `regions`."""
        return any(kind.has_regions for kind in self._kinds.values())

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return {name: kinds()[name](self.regions) for name in self.kinds}

    def mask(self, text: str) -> Masked:
        """Return `text` with something else in place of personal data.

        Raises:
            DataError: it holds some and is to be refused; the message says what and where, and no more.
        """
        return self.masks([text])[0]

    def masks(self, texts: Sequence[str]) -> list[Masked]:
        """Return each of `texts` masked, see `mask`; names are looked for in all of them at once."""
        names: Sequence[Sequence[Slice]] = [()] * len(texts) if self.names is None else self.names(texts)
        return [self.masked(text, of_text) for text, of_text in zip(texts, names, strict=True)]

    def object(self, value: Any) -> tuple[Any, dict[str, int]]:
        """Return a text, or an object of JSON, with every text in it masked, and how often each kind was found.

        Raises:
            DataError: it holds personal data and is to be refused.
        """
        counts = Counter[str]()

        def mask(text: str) -> Masked:
            masked = self.mask(text)
            counts.update(masked.counts)
            return masked

        return masked_object(value, lambda _: mask), dict(sorted(counts.items()))

    def find(self, text: str, names: Sequence[Slice] = ()) -> list[Found]:
        """Return the personal data in `text`; what overlaps is one, of the kind of its longest part."""
        return list(self._found(text, names))

    def _found(self, text: str, names: Sequence[Slice]) -> dict[Found, bool]:
        """Return what `find` does, and of each whether values of several kinds run into each other in it."""
        plain = plain_text(text)
        found = [
            Found(name, *plain.written(*place)) for name, kind in self._kinds.items() for place in kind.find(plain.text)
        ]
        found += [Found(NAME, *place) for place in names]
        return _disjoint(found)

    def masked(self, text: str, names: Sequence[Slice]) -> Masked:
        """Return `text` masked, and the `names` in it, which have been found already; see `mask`."""
        found = self._found(text, names)
        if not found:
            return Masked(text)
        if self.with_ == "refuse":
            listed = ", ".join(f"{one.kind} at characters {one.start} to {one.end}" for one in list(found)[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise DataError(f"it holds personal data: {listed}{more}. Remove it, or mask it")
        pieces: list[str] = []
        places: list[Slice] = []
        done = length = 0
        for one, is_mixed in found.items():
            # the surrogate of a kind has its form, and this text has not
            new = _tag(one.kind) if is_mixed else self.replacement(one.kind, text[one.start : one.end])
            pieces += [text[done : one.start], new]
            length += one.start - done
            places.append((length, length + len(new)))
            length, done = length + len(new), one.end
        return Masked("".join([*pieces, text[done:]]), tuple(found), tuple(places))

    def replacement(self, kind: str, value: str) -> str:
        """Return what stands in place of a value: a tag such as ``[EMAIL]``, or a surrogate.

        A value of which no surrogate can be told from a real one becomes the tag.
        """
        if self.key is None:
            return _tag(kind)
        own = self._kinds[kind]
        plain = plain_text(value).text
        same = own.same(plain)
        for number in range(_TRIES):
            new = own.surrogate(plain, Draw(self.key, f"{kind}\x1f{same}\x1f{number}"))
            if new != plain and not self._is_found(own, new):
                return new
        return _tag(kind)

    def _is_found(self, own: Kind, new: str) -> bool:
        """Return whether a surrogate is found again, by its own kind or another.

        Of a long number, this must not depend on how it is written, for it has one surrogate however that is: it is
        looked at without separators, and in groups of four.
        """
        compact = "".join(filter(str.isalnum, new))
        grouped = " ".join(compact[n : n + 4] for n in range(0, len(compact), 4))
        forms = (compact, grouped) if own.is_number else (new,)
        others = any(kind.found_anywhere(form) for kind in self._kinds.values() for form in forms)
        return others or own.found_anywhere(new)


def _tag(kind: str) -> str:
    return f"[{kind.upper()}]"


def _disjoint(found: list[Found]) -> dict[Found, bool]:
    """Return what overlaps as one, and of each whether kinds overlap in it and none of them has it whole."""
    result: list[tuple[Found, int, bool]] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        length = one.end - one.start
        if result and one.start < result[-1][0].end:
            before, longest, is_mixed = result[-1]
            kind = one.kind if length > longest else before.kind
            is_mixed |= one.kind != before.kind and (one.end > before.end or length > longest)
            result[-1] = Found(kind, before.start, max(before.end, one.end)), max(length, longest), is_mixed
        else:
            result.append((one, length, False))
    return {one: is_mixed for one, _, is_mixed in result}
