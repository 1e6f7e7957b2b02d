"""Other code behind runs in one table, or code that no commit names."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, divides, fewest, listed, places
from peftlab.report.study import Run


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the versions of the code, and the runs of code that was changed after its commit."""
    runs = compared_runs(comparison)
    grouped = by_value(runs, _code)
    if len(grouped) > 1:
        apart = divides(comparison, _code)
        meaning = (
            "groups differ in it, so a difference between them may come from the code"
            if apart
            else "all groups have the same mixture"
        )
        yield Finding(
            "different_code",
            "warning" if apart else "note",
            f"The runs were made by {len(grouped)} versions of the code ({listed(_short(code) for code in grouped)}): "
            f"{meaning}. Run them again with one, or repeat some of the older with the newest: peftlab reproduce.",
            places(fewest(grouped)),
        )
    changed = [run for run in runs if run.record.data["code"]["dirty"]]
    if changed:
        yield Finding(
            "different_code",
            "note",
            "The code had changes that no commit holds; only their digest is recorded. Others cannot get this code. "
            "Commit before the runs that a claim rests on.",
            places(changed),
        )


def _code(run: Run) -> str | None:
    code = run.record.data["code"]
    if code["commit"] is None:
        return None if code["version"] is None else f"version {code['version']}"
    return f"{code['commit']} {code['diff_sha256'] or ''}".strip()


def _short(code: str) -> str:
    """Return a version as a sentence names it: the start of the commit, and of the digest of changes to it."""
    commit, _, changes = code.partition(" ")
    return code if commit == "version" else f"{commit[:10]} + changes {changes[:6]}" if changes else commit[:10]
