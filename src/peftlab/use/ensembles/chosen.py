"""Which runs an ensemble is made of: those that are named, and the best of folders of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peftlab.errors import UserError
from peftlab.runs.find import find, readable_records
from peftlab.runs.record import FILE_NAME, RunRecord


def chosen(paths: Sequence[str | Path], best: int | None = None) -> list[RunRecord]:
    """Return the records of the runs at `paths`: run folders, starts of ids, and folders of runs such as a sweep's.

    Of a folder of runs, all that were completed by training count; but the trials of a search, which were not tested,
    only if no run was.

    Args:
        paths: where they are.
        best: how many to keep, those with the best score on the validation split, the best first; None: all.

    Raises:
        UserError: there is no such run, or there are fewer than `best`; or they were selected by different scores.
    """
    found: dict[str, RunRecord] = {}
    for path in paths:
        for record in _records(Path(path)):
            found.setdefault(record.data["identity"]["sha256"], record)
    records = list(found.values())
    if best is None:
        return records
    if odd := next((one for one in records if one.data["selection"]["metric"] is None), None):
        raise UserError(f"--best {best}: {odd.folder} was not completed, and has no validation score. Leave it out")
    selections = {(one.data["selection"]["metric"], one.data["selection"]["mode"]) for one in records}
    if len(selections) > 1:
        names = ", ".join(sorted(str(metric) for metric, _ in selections))
        raise UserError(f"--best {best}: the runs were selected by different scores: {names}. Name runs of one of them")
    scored = [(value, one) for one in records if (value := one.data["selection"]["value"]) is not None]
    if len(scored) < best:
        raise UserError(f"--best {best}: there are {len(scored)} completed runs in {', '.join(map(str, paths))}")
    (_, mode), *_ = selections
    return [one for _, one in sorted(scored, key=lambda pair: pair[0], reverse=mode != "min")[:best]]


def _records(path: Path) -> list[RunRecord]:
    if not path.is_dir() or (path / FILE_NAME).is_file():
        return [RunRecord.load(find(path))]
    records = readable_records(sorted(file.parent for file in path.glob(f"*/{FILE_NAME}")))
    completed = [one for one in records if one.data["status"] == "completed" and one.derived is None]
    if not completed:
        raise UserError(f"'{path}': it is no run, and no completed run lies in it. `peftlab runs {path}` lists them")
    return [one for one in completed if one.scores("test")] or completed
