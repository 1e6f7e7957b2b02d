"""Files of a run that are not what its record lists: the evidence was changed after the run."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.errors import UserError
from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, counted, listed, places
from peftlab.report.recount import recount
from peftlab.report.study import Run
from peftlab.runs.folder import CONFIG
from peftlab.storage.digests import file_sha256
from peftlab.storage.entries import is_plain_file


def check(comparison: Comparison) -> Iterator[Finding]:
    """Hold configuration and predictions of the compared runs against the digests in their records."""
    for changed, runs in by_value(compared_runs(comparison), _changed).items():
        yield Finding(
            "tampered_files",
            "error",
            f"{listed(changed)} of {counted(len(runs), 'run')} {'is' if len(changed) == 1 else 'are'} not what the run "
            "left there, by the digest in its record: nothing that follows from it is evidence. Put the file back, or "
            "run it again.",
            places(runs),
        )
    gone = [run for run in compared_runs(comparison) if any(sha256 is None for _, sha256 in _digests(run))]
    if gone:
        yield Finding(
            "tampered_files",
            "note",
            f"{counted(len(gone), 'run')} came without configuration or predictions that the record lists, so not all "
            "checks could be made.",
            places(gone),
        )


def _changed(run: Run) -> tuple[str, ...] | None:
    changed = (path for path, sha256 in _digests(run) if sha256 is not None and sha256 != _recorded(run, path))
    return tuple(changed) or None


def _digests(run: Run) -> Iterator[tuple[str, str | None]]:
    """Yield the listed files that a report rests on, with the present digest; None if the file is gone."""
    for path in (CONFIG, "predictions/validation.jsonl", "predictions/test.jsonl"):
        if _recorded(run, path) is None:
            continue
        if path == CONFIG:
            yield path, _digest(run, path)
        else:
            evidence = recount(run, path.removeprefix("predictions/").removesuffix(".jsonl"))
            yield path, None if evidence is None else evidence.file_sha256 or _digest(run, path)


def _recorded(run: Run, path: str) -> str | None:
    return next((str(file["sha256"]) for file in run.record.data["files"] if file["path"] == path), None)


def _digest(run: Run, path: str) -> str | None:
    file = run.record.folder / path
    try:
        return file_sha256(file) if is_plain_file(file) else None
    except UserError:
        return None
