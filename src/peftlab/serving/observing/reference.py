"""The reference that drift is measured from: made once of a run's own validation split, and kept.

It is kept in the cache, ``drift/IDENTITY-SETTINGS.json``, by the identity of the run and a digest of what the server
masks and of the bins: a run's folder may be read only, and stays as the run left it. The validation split is taken, not
the training split, because a model is surer of what it has been trained on than of anything else from the same source.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from peftlab.errors import DataError, DiskError
from peftlab.runs.folder import each_prediction
from peftlab.serving.observing.drift import FEWEST, Reference, reference_of
from peftlab.serving.observing.traits import CONFIDENCES, LENGTHS, Traits, traits
from peftlab.sources import cache_root
from peftlab.storage.atomic import replacing
from peftlab.storage.digests import sha256_of

if TYPE_CHECKING:
    from peftlab.personal_data.masker import Masker
    from peftlab.serving.models.models import ModelCard, Models, Query

log = logging.getLogger("peftlab")

MOST_INPUTS = 1_000
"""Inputs of a reference: as many as a window has; of more, a start would take long, and windows would gain little."""

_RANGES = 10
_AT_ONCE = 64


def file_of(identity: str, mask: Masker | None = None) -> Path:
    """Return the file of the reference of the run with this identity, on a server with this `mask`."""
    masks: list[Any] | None = None
    if mask is not None:  # surrogates of any key are alike in form
        masks = [mask.kinds, mask.with_, mask.regions, *([] if mask.names is None else [mask.names.digest])]
    settings = sha256_of([masks, LENGTHS, CONFIDENCES])
    return cache_root() / "drift" / f"{identity}-{settings[:12]}.json"


def kept(identity: str, mask: Masker | None = None) -> Reference | None:
    """Return the reference that is kept of a run; None if there is none, or none that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        return Reference.from_json(json.loads(file_of(identity, mask).read_text(encoding="utf-8")))
    return None


def reference(models: Models, name: str, mask: Masker | None = None) -> Reference | None:
    """Return the reference of a model, and compute it first if it is not kept yet.

    If there is none, because the run has left too few predictions or none, this is logged.

    Args:
        models: the models of the server.
        name: the name of one of them.
        mask: what the server masks in all inputs, those of the reference too.
    """
    card = models.card(name)
    file = file_of(card.identity, mask)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):  # of several workers one computes
            if (earlier := kept(card.identity, mask)) is not None:
                return earlier
            made = _computed(models, card)
            if made is not None:
                with replacing(file) as temporary:
                    temporary.write_text(json.dumps(made.as_json()), encoding="utf-8")
            return made
    except (OSError, DiskError) as error:
        log.warning("%s: its drift is not watched: %s", name, error)
        return None


def _computed(models: Models, card: ModelCard) -> Reference | None:
    read = [query for one in _inputs(card) if (query := _read(models, card.name, one))]
    queries = sorted(read, key=lambda query: query.tokens)  # batches of like lengths
    log.info("%s: computing what drift is measured from, %d inputs, once", card.name, len(queries))
    answers: list[Any] = [{} for _ in queries] if card.generates else []
    for start in range(len(answers), len(queries), _AT_ONCE):
        answers += models.answers(queries[start : start + _AT_ONCE])
    rows = [
        (query.tokens, query.unknown, answer)
        for query, answer in zip(queries, answers, strict=True)
        if isinstance(answer, dict)
    ]
    if len(rows) < FEWEST:
        log.warning(
            "%s: its drift is not watched: %d validation inputs with an answer are too few, %d are needed",
            card.name,
            len(rows),
            FEWEST,
        )
        return None
    ranges = _ranges([answer for *_, answer in rows])
    of_answers: list[Traits] = [traits(answer, ranges) for *_, answer in rows]
    return reference_of([row[0] for row in rows], [row[1] for row in rows], of_answers, ranges)


def _read(models: Models, name: str, kept: Any) -> Query | None:
    """Return an input as predictions keep it, which for two texts is a list without their names; None: it is none."""
    forms = [kept]
    if isinstance(kept, list) and len(kept) == 2:
        forms += [dict(zip(names, kept, strict=True)) for names in (("question", "context"), ("text", "text_pair"))]
    for form in forms:
        with suppress(DataError):
            return models.read(name, form)
    return None


def _inputs(card: ModelCard) -> list[Any]:
    """Return inputs of the validation split, drawn from all that the run has answered; none if it has left none."""
    try:
        predictions = each_prediction(card.folder / "predictions" / "validation.jsonl")
        rows = [row["input"] for row in predictions if row.get("input") is not None]
    except (OSError, ValueError):
        return []
    return random.Random(0).sample(rows, min(len(rows), MOST_INPUTS))  # noqa: S311  # no secret


def _ranges(answers: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """Return the bounds of equally frequent ranges of predicted numbers; none where they are not numbers."""
    numbers = [value for answer in answers if isinstance(value := answer.get("predicted"), float)]
    if len(numbers) < len(answers):
        return ()
    return tuple(np.unique(np.quantile(numbers, np.arange(1, _RANGES) / _RANGES)).tolist())
