"""Labelling functions: what somebody knows about the labels, written as code instead of labels."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peftlab.errors import UserError
from peftlab.imports import find_here


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """A text without a label, or one whose label is only compared with what the functions say."""

    text: str
    pair: str | None = None
    """The second text of a pair."""
    words: tuple[str, ...] = ()
    """The words of a sentence whose entities are labelled; the text then has a space between any two."""
    place: str = ""
    """Its file and line, for messages."""
    gold: Any = None
    """Its label, or the BIO tags of its words; None: unknown."""


class LabellingFunction(Protocol):
    """Votes for the label of a text, or abstains."""

    @property
    def name(self) -> str:
        """Its name in reports, unique among those in use."""

    def votes(self, texts: Sequence[Unlabelled]) -> Iterator[Any]:
        """Yield the vote on each text: a label; of entities, a list of ``(start_word, end_word, type)``, where the word
        at `end_word` no longer belongs to it, and the type O says that there is none; or None, to abstain.
        """


@dataclass(frozen=True)
class Written:
    """A labelling function written in Python. It is still called like the plain function."""

    name: str
    function: Callable[[Unlabelled], Any]

    def __call__(self, text: Unlabelled) -> Any:
        """Return its vote on one text."""
        return self.function(text)

    def votes(self, texts: Sequence[Unlabelled]) -> Iterator[Any]:
        """Yield its vote on each text.

        Raises:
            UserError: it raises an exception; names the text.
        """
        for text in texts:
            try:
                yield self.function(text)
            except Exception as error:
                raise UserError(
                    f"{text.place}: the labelling function '{self.name}' fails: {type(error).__name__}: {error}. "
                    "Mend it; return None where it has nothing to say"
                ) from error


def labelling_function(named: str | Callable[[Unlabelled], Any]) -> Any:
    """Make a labelling function of a function that takes an `Unlabelled`; used as a decorator.

    ``@labelling_function`` takes the function's own name, and ``@labelling_function("thanks")`` gives it another.
    """
    if callable(named):
        return Written(getattr(named, "__name__", "function"), named)
    return lambda function: Written(named, function)


def functions_in(file: Path) -> list[LabellingFunction]:
    """Return the labelling functions of a Python module in the current folder, in their order. Its code is run.

    Raises:
        UserError: it lies elsewhere, cannot be imported, or has no labelling function.
    """
    name, here = file.stem, Path.cwd()
    if file.absolute().parent.resolve() != here.resolve() or not name.isidentifier():
        raise UserError(
            f"--functions {file}: its code would be run, so it must be yours, a module in the current folder ({here}). "
            "Change to its folder, and give its name, such as my_rules.py"
        )
    if not file.is_file():
        raise UserError(f"--functions {file}: there is no such file in {here}")
    find_here([name])
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise UserError(f"--functions {file}: cannot be imported: {type(error).__name__}: {error}") from error
    if Path(getattr(module, "__file__", None) or "").resolve() != file.resolve():
        raise UserError(f"--functions {file}: an installed module is called '{name}' too. Rename yours")
    functions: list[LabellingFunction] = [one for one in vars(module).values() if isinstance(one, Written)]
    if not functions:
        raise UserError(
            f"--functions {file}: it has no labelling function. Put @labelling_function, from "
            "peftlab.weak_supervision, above each"
        )
    return functions
