"""Runs by name, and their answers: those of one pass for all runs that can share it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from peftlab.answer_search.arguments import Settings as Search
from peftlab.data.encoded_blocks import joined
from peftlab.errors import ConfigError, DataError, UserError, did_you_mean
from peftlab.models.adapted_model import base_model
from peftlab.personal_data.masker import Masker
from peftlab.reading.unicode_text import Door
from peftlab.runs.find import find
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.serving.access.callers import ADMIN
from peftlab.serving.models.mixing import Mixed
from peftlab.serving.models.shelf import Shelf
from peftlab.tasks.inputs.media_files import MediaTask, uploaded
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded
from peftlab.use.answer_encoders import check_scope, open_fallback
from peftlab.use.finished import FinishedRun
from peftlab.use.predictor import Answer, Predictor, Refused, beside

_NAME = re.compile(rf"(?!{ADMIN}$)[\w.-]{{1,100}}")
"""What a run may be called: a part of a path and of a key's scopes, where the word for administration means that."""

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""The arithmetic that a server may have in place of a run's own, in the terms of ``trainer.precision``."""

_SENTENCE, _QUESTION = "Marie Curie moved from Warsaw to Paris.", "Where did she move?"
_EXAMPLES: tuple[Any, ...] = (
    _SENTENCE,
    {"text": _SENTENCE, "text_pair": _QUESTION},
    {"question": _QUESTION, "context": _SENTENCE},
    {"question": _QUESTION, "choices": ["to Paris", "to Rome"]},
    {"text": _SENTENCE, "head": [0, 11], "tail": [23, 29]},
    {"words": _SENTENCE.split(), "head": [0, 2], "tail": [4, 5]},
    [{"role": "user", "content": _QUESTION}],
)
"""Inputs, of which a card shows the first that its run accepts."""


class UnknownModelError(UserError):
    """No run is served under this name."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a caller may know about a run that is served."""

    name: str
    run: str
    """The id of the run."""
    task: str
    labels: tuple[str, ...]
    """In the order of the task; empty where it has none."""
    method: str
    backbone: str
    """The name of the pretrained model."""
    identity: str
    """The digest of all that decides the run's result."""
    max_tokens: int
    """The longest row; what is beyond is cut, or becomes a further row, as in training."""
    generates: bool
    """Whether it writes texts, which can be streamed."""
    mixed: bool
    """Whether its inputs share batches with those of other runs on the same backbone."""
    example: Any
    """An input that it accepts; None: unknown."""
    folder: Path
    notice: str | None = None
    """What everybody who asks it is to be told; None: nothing."""


@dataclass(frozen=True)
class Query:
    """An input that has been read: what `Models.answers` takes."""

    model: str
    run: str = field(repr=False)
    """The id of the run that has read it: another one may have the model's name by the time of the answer."""
    tokens: int
    """Tokens over all its rows."""
    group: str
    """Queries of equal group may share a batch."""
    entries: Mapping[str, Any] = field(repr=False)
    """The entries of the object, which its answer stands beside."""
    example: Any = field(repr=False)
    encoded: Encoded = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Options of generation in place of the run's."""
    unknown: int = 0
    """Tokens that stand for what the vocabulary lacks."""


class Models:
    """Finished runs by name, which answer as `FinishedRun.predict` does.

    Runs on the same pretrained weights share them in memory. Of these, all that differ from the backbone module by
    module are computed in one batch, see `Mixed`; their answers may differ from those of separate batches in the last
    digits. Alone in a batch, each run is computed by its own model.

    One thread may read inputs while another has answers computed.

    Args:
        runs: their folders or the starts of their ids; ``NAME=RUN`` gives one another name than its id.
        allow: packages whose classes the runs' configurations may name: their code is run.
        precision: ``fp32`` or ``bf16`` for all; None: each has that of its run.
        device: ``cpu`` or ``cuda`` for all; None: each has that of its run, if it is here.
        mask: masks personal data in every input, after what the run's own configuration masks.
        fallback: the stored answers that texts out of a run's scope get.

    Raises:
        UserError: there is no such run, it cannot be used, or two have one name.
    """

    def __init__(
        self,
        runs: Sequence[str],
        *,
        allow: Sequence[str] = (),
        precision: str | None = None,
        device: str | None = None,
        mask: Masker | None = None,
        fallback: Search | None = None,
    ) -> None:
        if precision not in (None, *PRECISIONS):
            raise ConfigError(f"precision {precision}: allowed are {' and '.join(PRECISIONS)}, or the run's own")
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device cuda: there is no GPU here; leave it out, or take cpu")
        self._allow, self._precision, self._device, self._mask = allow, precision, device, mask
        if mask is not None:
            mask.masks([])  # what finds names is loaded before anything is asked
        self._fallback = open_fallback(fallback, allow)
        self._shelf = Shelf()
        self._mixed: dict[str, Mixed] = {}
        """By what all runs of a batch have in common: the runs that share batches."""
        self._served: dict[str, _Served] = {}
        self._reading = threading.Lock()  # a tokenizer must not be used by two threads at once
        for run in runs:
            self.add(run)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that an input may be sent to."""
        return tuple(self._served)

    @property
    def default(self) -> str | None:
        """The name of the only run; None if there are several."""
        return self.names[0] if len(self.names) == 1 else None

    def add(self, run: str) -> str:
        """Load a run, see `Models`, and return its name.

        Raises:
            UserError: as above; nothing has changed.
        """
        name, equals, place = run.partition("=")
        if not equals or Path(run).exists():
            name, place = "", run
        elif not _NAME.fullmatch(name):
            raise UserError(f"{run}: {name!r} names no model: 1 to 100 letters, digits, _, . and -, and not '{ADMIN}'")
        folder = find(place)
        name = name or str(RunRecord.load(folder).data["run_id"])
        if name in self._served:
            raise UserError(f"two runs are called {name}: give one of them another name, NAME={folder}")
        served = self._load(name, folder)
        self._served = {**self._served, name: served}  # a new one: another thread may be reading the names
        return name

    def remove(self, name: str) -> None:
        """Forget a run, and its backbone if no other has it.

        Raises:
            UnknownModelError: there is none of this name.
        """
        gone = self._of(name)
        self._served = {key: served for key, served in self._served.items() if key != name}
        if gone.mixed is not None:
            gone.mixed.remove(name)
            if not gone.mixed.names:
                self._mixed = {key: mixed for key, mixed in self._mixed.items() if mixed is not gone.mixed}
        weights = gone.run.pretrained.weights_sha256
        if all(one.run.pretrained.weights_sha256 != weights for one in self._served.values()):
            self._shelf.forget(weights)

    def card(self, name: str) -> ModelCard:
        """Return what a caller may know about the run called `name`.

        Raises:
            UnknownModelError: there is none of this name.
        """
        return self._of(name).card

    def read(self, name: str, one: Any, **options: Any) -> Query:
        """Read and tokenise an input for the run called `name`.

        Args:
            name: of the run.
            one: the input, as `FinishedRun.predict` takes it.
            options: of ``task.generate``, in place of the run's.

        Raises:
            UnknownModelError: there is none of this name.
            DataError: the run takes no such input.
            ConfigError: there is no such option, or the run writes no texts.
        """
        served = self._of(name)
        predictor = served.generating(options)
        entries = predictor.entries(one, Door())
        shown = uploaded(entries) if isinstance(predictor.task, MediaTask) else entries
        with self._reading:
            example = predictor.example(entries, "text:0")
            encoded = predictor.task.encode([example], predictor.processor, predictor.limits)
        group = f"{name} {json.dumps(options, sort_keys=True, default=str)}" if options else served.group
        unknown = _unknown(encoded, predictor.processor)
        size = int(encoded.tokens.sum())
        return Query(name, served.id, size, group, shown, example, encoded, options, unknown)

    def answers(self, queries: Sequence[Query]) -> list[Answer | Refused]:
        """Return the answer to each of `queries` in their order, as `FinishedRun.predict` has it, or why there is none.

        Those of one group are computed in one batch.
        """
        answers: dict[int, Answer | Refused] = {}
        groups: dict[str, dict[str, dict[int, Query]]] = {}
        for place, query in enumerate(queries):
            try:
                self._reader(query)
                groups.setdefault(query.group, {}).setdefault(query.model, {})[place] = query
            except DataError as gone:
                answers[place] = Refused(dict(query.entries), gone)
        for by_model in groups.values():
            answers |= self._of_group(by_model)
        return [answers[place] for place in range(len(queries))]

    def stream(self, query: Query) -> Generator[str, None, bool]:
        """Yield the text that a run writes to one input, piece by piece; return whether it ended it itself.

        Raises:
            DataError: the run is no longer here.
        """
        return self._reader(query).generating(query.options).written(query.example, query.encoded)

    def remarks(self, query: Query) -> dict[str, Any]:
        """Return what of an input was masked, or is not seen, or raise a DataError: the run is no longer here."""
        return self._reader(query).remarks(query)

    def _reader(self, query: Query) -> _Served:
        """Return the run that has read an input.

        Raises:
            DataError: it was removed since, and another may have its name.
        """
        served = self._served.get(query.model)
        if served is None or served.id != query.run:
            raise DataError(f"the model '{query.model}' that read this is no longer here: ask again")
        return served

    def _of(self, name: str) -> _Served:
        if name not in self._served:
            near = did_you_mean(name, self.names)
            raise UnknownModelError(f"there is no model '{name}'.{near} There are: {', '.join(self.names) or 'none'}")
        return self._served[name]

    def _of_group(self, by_model: Mapping[str, Mapping[int, Query]]) -> dict[int, Answer | Refused]:
        """Return the answers to queries of one group, by their numbers."""
        here = {name: self._served[name] for name in by_model}
        mixed = next(iter(here.values())).mixed if len(here) > 1 else None
        if mixed is not None:
            try:
                inputs = {name: self._joined(here[name].predictor, [*by_model[name].values()]) for name in here}
                replies = mixed.replies({name: (here[name].predictor, *inputs[name]) for name in here})
                return self._beside(by_model, replies)
            except DataError:  # one of them is bad: each run by itself finds out which
                pass
        answers: dict[int, Answer | Refused] = {}
        for name, one in here.items():
            answers |= self._of_one(one, by_model[name])
        return answers

    def _of_one(self, served: _Served, queries: Mapping[int, Query]) -> dict[int, Answer | Refused]:
        """Return the answers to queries of one run with the same options, by their numbers."""
        predictor = served.generating(next(iter(queries.values())).options)
        try:
            replies = predictor.computed(*self._joined(predictor, [*queries.values()]))
        except DataError as error:  # one of them is bad, or they do not fit together
            if len(queries) == 1:
                return {n: Refused(dict(query.entries), error) for n, query in queries.items()}
            return {
                n: one for place, query in queries.items() for n, one in self._of_one(served, {place: query}).items()
            }
        return {n: beside(query.entries, reply) for (n, query), reply in zip(queries.items(), replies, strict=True)}

    def _joined(self, predictor: Predictor, queries: Sequence[Query]) -> tuple[list[Any], Encoded]:
        """Return the examples of `queries`, and how they are encoded together."""
        examples = [query.example for query in queries]
        if len(queries) == 1:
            return examples, queries[0].encoded
        if predictor.task.pointers is not None:
            return examples, joined([query.encoded for query in queries], predictor.task.pointers)
        with self._reading:
            return examples, predictor.task.encode(examples, predictor.processor, predictor.limits)

    @staticmethod
    def _beside(
        by_model: Mapping[str, Mapping[int, Query]], replies: Mapping[str, Sequence[Answer]]
    ) -> dict[int, Answer | Refused]:
        return {
            n: beside(query.entries, reply)
            for name, of_model in replies.items()
            for (n, query), reply in zip(by_model[name].items(), of_model, strict=True)
        }

    def _load(self, name: str, folder: Path) -> _Served:
        run = FinishedRun(RunFolder(RunRecord.load(folder), allow=self._allow))
        run.pretrained = self._shelf.on(run.pretrained)
        model = run.adapted()
        self._shelf.share(model, run.pretrained.weights_sha256)
        predictor = run.predictor_of(model.requires_grad_(False))
        changes: dict[str, Any] = {}
        if self._precision is not None:
            changes["precision"] = PRECISIONS[self._precision]
        if self._device is not None:
            changes["device"] = torch.device(self._device)
        if self._fallback is not None:
            check_scope(run)
            changes["fallback"] = self._fallback
        if self._mask is not None:
            changes["masks"] = (*predictor.masks, self._mask)
        predictor = replace(predictor, **changes)
        key = Mixed.key(predictor, run.parts, run.pretrained.weights_sha256)
        if key is not None:
            if (mixed := self._mixed.get(key)) is None:
                backbone = base_model(run.parts, run.pretrained)
                self._shelf.share(backbone.model, run.pretrained.weights_sha256)
                mixed = Mixed(backbone, predictor.device)
            if mixed.add(name, predictor) is None:
                self._mixed = {**self._mixed, key: mixed}
                return _Served(name, run, predictor, key, mixed)
        return _Served(name, run, predictor, name, None)


@dataclass
class _Served:
    """A run that answers."""

    name: str
    run: FinishedRun
    predictor: Predictor
    group: str
    mixed: Mixed | None
    """The runs that it shares batches with; None: it is computed by itself."""

    @property
    def id(self) -> str:
        """The id of the run."""
        return str(self.run.record.data["run_id"])

    def generating(self, options: Mapping[str, Any]) -> Predictor:
        """Return the predictor with other options of generation."""
        return self.predictor.generating(options) if options else self.predictor

    def remarks(self, query: Query) -> dict[str, Any]:
        """Return what of an input was masked, or is not seen."""
        is_masked = bool(self.predictor.masks) and "masked" in query.entries
        masked = {"masked": query.entries["masked"]} if is_masked else {}
        return masked | self.predictor.task.lost(query.encoded, 0)

    @cached_property
    def card(self) -> ModelCard:
        """What a caller may know."""
        parts, record = self.run.parts, self.run.record.data
        return ModelCard(
            name=self.name,
            run=self.id,
            task=parts.task.name,
            labels=tuple(parts.task.labels),
            method=parts.peft.name,
            backbone=parts.model.name,
            identity=record["identity"]["sha256"],
            max_tokens=self.predictor.max_tokens,
            generates=parts.task.generates,
            mixed=self.mixed is not None,
            example=next(filter(self._accepts, _EXAMPLES), None),
            folder=self.run.folder.path,
            notice=self.run.notice,
        )

    def _accepts(self, one: Any) -> bool:
        try:
            self.predictor.read(one)
        except DataError:
            return False
        return True


def _unknown(encoded: Encoded, processor: Processor) -> int:
    """Return the number of unknown tokens; 0 where the inputs are no texts, or the vocabulary lacks nothing."""
    unknown = getattr(processor.transform, "unk_token_id", None)
    ids = [encoded.arrays[name] for name in ("tokens", "input_ids") if name in encoded.arrays]
    return 0 if unknown is None else int(sum((of_rows == unknown).sum() for of_rows in ids))
