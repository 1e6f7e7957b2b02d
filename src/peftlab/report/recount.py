"""The predictions that a run left, counted again: what they are, and which scores follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from peftlab.errors import UserError
from peftlab.report.study import Run
from peftlab.storage.digests import file_sha256, sha256_of


@dataclass(frozen=True)
class Recount:
    """What the predictions of one split show."""

    rows: int
    """How many examples they are; 0 if they cannot be read."""
    scores: Mapping[str, float]
    """The scores that follow from them, by name; empty if the scorer is unknown, or `fault` says why there are none."""
    gold_sha256: str | None
    """The digest of the names and gold answers of the examples, in their order."""
    file_sha256: str | None
    fault: str | None
    """Why they cannot be read or scored; None if they can."""


@lru_cache(maxsize=10_000)
def recount(run: Run, split: str) -> Recount | None:
    """Return what the run's predictions of `split` show; None if it kept none."""
    file, sha256 = run.record.folder / "predictions" / f"{split}.jsonl", None
    try:
        answers = run.answers(split)
        if answers is None:
            return None
        sha256 = file_sha256(file)
        gold = sha256_of([[answer.get("id"), answer["gold"]] for answer in answers])
        scores = {} if run.scorer is None else run.scorer.measured(answers)
    except (UserError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        what = f"an answer lacks {error}" if isinstance(error, LookupError) else str(error).removeprefix(f"{file}: ")
        return Recount(0, {}, None, sha256, what)
    return Recount(len(answers), scores, gold, sha256, None)
