"""Masks the examples of a data set as they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from peftlab.data.views import View, mapped
from peftlab.errors import ConfigError, DataError
from peftlab.personal_data.masked import Masked
from peftlab.personal_data.masker import Masker

_NAMES = ("group", "source_id")
"""What an example may be called in its file: it tells examples apart, and is no text of theirs."""


class ExampleMask:
    """Masks examples one at a time, and counts what it finds in them.

    Texts are masked by the method ``masked`` of the example's class, which moves what its gold refers to. Groups and
    ids that hold personal data become its kind and a number, or a surrogate, so that they still tell examples apart.
    """

    def __init__(self, masker: Masker) -> None:
        self.masker = masker
        self.counts = Counter[str]()
        """How often each kind was found."""
        self._numbers: dict[str, str] = {}

    def __call__(self, example: Any) -> Any:
        """Return `example` masked.

        Raises:
            ConfigError: its class has no method ``masked``.
            DataError: it holds personal data and is to be refused; the message names the place and the kind.
        """
        if not hasattr(example, "masked"):
            raise ConfigError(
                f"data.mask_pii: examples of the class {type(example).__name__} cannot be masked. Its class needs the "
                "method `masked`, as `peftlab.tasks.inputs.texts.Text` has it"
            )
        try:
            masked = example.masked(self._counted)
            names = {name: self._name(own) for name in _NAMES if (own := getattr(example, name, None)) is not None}
        except DataError as error:
            raise DataError(f"{getattr(example, 'place', '') or example.id}: {error}") from None
        return replace(masked, **names)

    def _counted(self, text: str) -> Masked:
        masked = self.masker.mask(text)
        self.counts += masked.counts
        return masked

    def _name(self, name: str) -> str:
        masked = self.masker.mask(name)
        if not masked.found or self.masker.with_ == "surrogate":
            return masked.text
        return self._numbers.setdefault(name, f"{masked.found[0].kind}:{len(self._numbers)}")


def masked_examples(examples: Sequence[Any], mask: ExampleMask) -> tuple[Sequence[Any], dict[str, int]]:
    """Return `examples` masked, and how often each kind was found in them: ``masked_email`` and the like.

    All are masked once, which finds what is to be refused; those of a view are masked again when they are accessed.
    """
    before = Counter(mask.counts)
    masked = []
    for example in examples:
        one = mask(example)
        if not isinstance(examples, View):
            masked.append(one)
    counts = {f"masked_{kind}": count for kind, count in sorted((mask.counts - before).items())}
    return (mapped(examples, mask) if isinstance(examples, View) else masked), counts
