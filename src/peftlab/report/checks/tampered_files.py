"""Files of a run that are not what its record lists: the evidence was changed after the run."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.errors import UserError
from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, listed, places
from peftlab.report.numbers import plural
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
            f"{listed(changed)} of {plural(len(runs), 'run')} {'is' if len(changed) == 1 else 'are'} not what the run "
            "left there, by the digest in its record: nothing that follows from it is evidence. Put the file back, or "
            "run it again.",
            places(runs),
        )
    gone = [run for run in compared_runs(comparison) if any(sha256 is None for _, sha256 in _digests(run))]
    if gone:
        yield Finding(
            "tampered_files",
            "note",
            f"{plural(len(gone), 'run')} came without configuration or predictions that the record lists, so not all "
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
        evidence = None if path == CONFIG else recount(run, path.removeprefix("predictions/").removesuffix(".jsonl"))
        yield path, evidence.file_sha256 if evidence and evidence.file_sha256 else _digest(run, path)


def _recorded(run: Run, path: str) -> str | None:
    return next((str(file["sha256"]) for file in run.record.data["files"] if file["path"] == path), None)


def _digest(run: Run, path: str) -> str | None:
    """Return the present digest of a listed file, the empty text if it has not even the size; None if it is gone."""
    file = run.record.folder / path
    size = next(file["bytes"] for file in run.record.data["files"] if file["path"] == path)
    try:
        if not file.exists():
            return None
        return file_sha256(file) if is_plain_file(file) and file.stat().st_size == size else ""
    except (UserError, OSError):
        return ""
