"""What the kept answers of a run say of its scope: the section of the record follows from them, or contradicts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peftlab.abstaining.learning import ANSWERS, follows
from peftlab.abstaining.scope import Scope
from peftlab.abstaining.spec import OutOfScope
from peftlab.data.module import DataModule
from peftlab.errors import UserError
from peftlab.runs.decisions import DECISIONS, STATISTICS, read_scope
from peftlab.runs.folder import RunFolder, each_prediction
from peftlab.scores.scorer import SCORED
from peftlab.storage.digests import file_sha256


def evident_scope(folder: RunFolder, section: OutOfScope, data: DataModule, seed: int) -> dict[str, Any] | None:
    """Return the section of the record on what is out of scope that follows from the kept answers; None: unreadable."""
    try:
        scope, found = follows(Scope(section.score, section.options), section, folder, data, seed)
        statistics = folder.adapter / STATISTICS
        digest = file_sha256(statistics) if statistics.is_file() else None
        return {"learnt": {**scope.described, "statistics_sha256": digest}, **found}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, UserError):
        return None


def contradicting_scope(folder: RunFolder, section: dict[str, Any]) -> Iterator[str]:
    """Yield how the answers on scope contradict the decisions beside the adapter, or the run's other predictions."""
    try:
        if read_scope(folder.adapter) != section["learnt"]:
            yield f"adapter/{DECISIONS} is not what follows from predictions/{ANSWERS}"
        of_all = {(row["set"], row["id"]): row["predicted"] for row in each_prediction(folder.predictions / ANSWERS)}
        for split in SCORED:
            if (file := folder.predictions / f"{split}.jsonl").is_file():
                for row in each_prediction(file):
                    if of_all.get((split, row["id"])) != row["predicted"]:
                        yield f"predictions/{ANSWERS} has another label for '{row['id']}' than predictions/{file.name}"
                        return
    except (OSError, ValueError, LookupError, TypeError, UserError) as error:
        yield f"predictions/{ANSWERS}: cannot be read: {error}"
