"""A stand-in for the models of a server, which computes nothing and notes what it is asked."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.errors import ConfigError, DataError, UserError
from peftlab.use.predictor import Refused


@dataclass(frozen=True)
class Query:
    model: str
    tokens: int
    group: str
    text: str
    unknown: int = 0


@dataclass(frozen=True)
class Card:
    name: str
    run: str = "0123456789ab"
    task: str = "sentiment"
    labels: tuple[str, ...] = ("bad", "good")
    method: str = "lora"
    backbone: str = "tiny"
    identity: str = "f" * 64
    max_tokens: int = 128
    generates: bool = False
    mixed: bool = True
    example: Any = "fine"
    folder: Path = Path("/nowhere")
    notice: str | None = None


class StandIn:
    """Models `ner` and `tone`, which share batches, and `writer`, which generates: an answer has its text's length.

    A text "bad" cannot be read, "broken" breaks what is computed with it; `gate` holds every batch back until it is
    set, and of a text that is written what comes after the `free` first words; `batches` are the texts of each batch.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ("ner", "tone", "writer")
        self.default: str | None = None
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.written: list[str] = []
        self.free = 0

    def card(self, name: str) -> Card:
        return Card(
            name, generates=name == "writer", notice="no diagnosis \u2013 ask" if name in ("tone", "writer") else None
        )

    def read(self, name: str, one: Any, **options: Any) -> Query:
        if options.get("seed") == 13:
            raise ConfigError("generate.seed acts only where texts are sampled")
        if one == "bad" or not isinstance(one, str):
            raise DataError("is no text")
        return Query(name, len(one), "writer" if name == "writer" else "encoder", one)

    def answers(self, queries: Sequence[Query]) -> list[dict[str, Any] | Refused]:
        self.begun.set()
        assert self.gate.wait(10)
        self.batches.append([query.text for query in queries])
        if any(query.text == "broken" for query in queries):
            raise RuntimeError("out of luck")
        return [{"text": query.text, "of": query.model, "length": query.tokens} for query in queries]

    def stream(self, query: Query) -> Generator[str, None, bool]:
        self.begun.set()
        for number, word in enumerate(query.text.split()):
            assert number < self.free or self.gate.wait(10)
            self.written.append(word)
            yield word
        return not query.text.endswith("more")

    def remarks(self, query: Query) -> dict[str, Any]:
        return {"truncated": True, "lost_tokens": 1} if query.text.endswith("more") else {}

    def add(self, run: str) -> str:
        name = run.partition("=")[0]
        if "missing" in run:
            raise UserError("there is no such run")
        self.names = (*self.names, name)
        return name

    def remove(self, name: str) -> None:
        self.names = tuple(one for one in self.names if one != name)
