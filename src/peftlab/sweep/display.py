"""Displays a sweep: a live table on a terminal, plain lines elsewhere; and prints its status."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from peftlab.sweep.board import Board
from peftlab.terminal.console import LastingConsole, clock, console

log = logging.getLogger("peftlab")

LINE_SECONDS = 20.0
"""Interval of plain lines while no trial ends."""
ROWS = 20
"""Trials in the live table: running ones first, then the best."""

_WIDTH = 140
"""Line width if the output is not a terminal."""
_ORDER = ("running", "completed", "pruned", "interrupted", "failed", "waiting")


@contextmanager
def drawing() -> Iterator[Display]:
    """Yield the display of a sweep's board."""
    display = Display()
    if console.is_terminal:
        display.live = Live(console=console, auto_refresh=False, transient=True)
    with display.live or nullcontext():
        yield display


class Display:
    """Draws a board at a limited rate."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self._drawn = 0.0
        self._over = -1

    def __call__(self, board: Board) -> None:
        """Draw the board if it is due."""
        now = time.monotonic()
        if self.live is not None:
            if now - self._drawn >= 0.5:
                self._drawn = now
                self.live.update(rendered(board.document(), ROWS), refresh=True)
            return
        over = sum(trial.state not in ("waiting", "running") for trial in board.trials)
        if over != self._over or now - self._drawn >= LINE_SECONDS:
            self._drawn, self._over = now, over
            log.info("%s", line(board.document()))

    def close(self, board: Board) -> None:
        """Print the final status: the best trials and the results of a protocol."""
        print_status(board.document(), ROWS, LastingConsole().file)


def print_status(document: Mapping[str, Any], rows: int | None = None, file: IO[str] | None = None) -> None:
    """Print the status of a sweep with at most `rows` trials to `file`, by default stdout."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = _WIDTH
    with out.capture() as captured:
        out.print(rendered(document, rows), soft_wrap=False)
        if document["results"]:
            out.print(results(document["results"]), soft_wrap=False)
    print(captured.get(), end="", file=file)


def line(document: Mapping[str, Any]) -> str:
    """Return the status of a sweep in one line."""
    summary = document["summary"]
    counts = ", ".join(f"{summary['counts'][state]} {state}" for state in _ORDER if summary["counts"].get(state))
    total = summary["total"]
    parts = [f"{document['name']}: {counts or 'nothing yet'}" + (f" of {total}" if total is not None else "")]
    if best := summary["best"]:
        parts.append(f"best {best['value']:.4f} ({' '.join(best['overrides'])})")
    if summary["eta_seconds"] is not None and document["status"] == "running":
        parts.append(f"ETA {clock(summary['eta_seconds'])}")
    parts.append(f"{summary['device_hours']:.2f} device hours")
    if summary["money"] is not None:
        parts.append(f"cost {summary['money']:.2f}")
    return "; ".join(parts)


def rendered(document: Mapping[str, Any], rows: int | None = None) -> Group:
    """Return a rich table of at most `rows` trials, and the status line below it."""
    table = Table(box=None, pad_edge=False)
    for name in ("id", "state", "trial", "progress", "validation", "test", "time", ""):
        table.add_column(name, overflow="fold" if name in ("trial", "") else "ellipsis")
    trials = sorted(document["trials"], key=_rank(document))
    for trial in trials[:rows]:
        note = trial["error"] or " ".join(
            word for word, holds in (("kept", trial["kept"]), ("other code", trial["other_code"])) if holds
        )
        table.add_row(
            trial["run_id"],
            trial["state"],
            Text(" ".join([*trial["overrides"], *(f"[{label}]" for label in trial["labels"].values())])),
            f"{trial['step']}/{trial['steps']}" if trial["steps"] else "",
            *("" if trial[key] is None else f"{trial[key]:.4f}" for key in ("score", "test")),
            clock(trial["seconds"]) if trial["seconds"] else "",
            Text(note[:200]),
        )
    hidden = len(trials) - len(trials[:rows])
    return Group(table, Text((f"and {hidden} more; " if hidden else "") + line(document)))


def results(rows: list[dict[str, Any]]) -> Table:
    """Return a rich table of a protocol's results with the first score; the file has the others."""
    table = Table(box=None, pad_edge=False)
    names = list(rows[0])
    scores = [name for name in names if f"{name} SD" in names]
    of_scores = {f"{name}{ending}" for name in scores for ending in ("", " SD", " from", " to")}
    shown = [name for name in names if name in scores[:1] or name not in of_scores]
    for name in shown:
        if name in scores:
            table.add_column(f"test {name}, mean ± SD")
            table.add_column("95 % interval")
        else:
            table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        cells: list[str] = []
        for name in shown:
            value = row[name]
            if name in scores:
                cells.append(f"{_number(value)} ± {_number(row[f'{name} SD'])}")
                cells.append(f"{_number(row.get(f'{name} from'))} to {_number(row.get(f'{name} to'))}")
            else:
                cells.append(_number(value) if isinstance(value, float) else "" if value is None else str(value))
        table.add_row(*map(Text, cells))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _rank(document: Mapping[str, Any]) -> Any:
    sign = -1 if "max" in list(document["objectives"].values())[:1] else 1

    def rank(trial: Mapping[str, Any]) -> tuple[int, float]:
        return _ORDER.index(trial["state"]), sign * trial["score"] if trial["score"] is not None else 0.0

    return rank
