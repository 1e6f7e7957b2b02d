"""Which search finds a good setting soonest? Searches replayed on a table of real learning curves.

python experiments/search_replay/replay.py [SEEDS] [NAME ...] [--within F1]

Each search is peftlab's own plan over the settings of ``curves.csv``, with one worker; a trial's validations are read
from the table instead of trained. Told is how many full-run equivalents (a run that is pruned after a third of its
training counts a third) it takes until a trial has been trained to its end whose best validation F1 is within half a
point (or ``--within``) of the best in the table: median and 90th percentile over the seeds, with 95 % intervals by the
bootstrap. A search that gets through the table without finding one counts with the whole table.
"""

from __future__ import annotations

import argparse
import csv
import functools
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from peftlab.sweep.plan import Evaluation, Outcome, Plan, Proposal
from peftlab.sweep.protocols import make_plan
from peftlab.sweep.space import Space
from peftlab.sweep.spec import SweepSpec

CURVES = Path(__file__).with_name("curves.csv")
OF_A_POINT = ("fraction", "entity_f1", "train_seconds")
"""The columns that are no setting."""
SEARCHES: dict[str, dict[str, Any]] = {
    "grid": {"search": "grid"},
    "random": {"search": "random"},
    "qmc": {"search": "qmc"},
    "tpe": {"search": "tpe"},
    "random, asha": {"search": "random", "prune": "asha"},
    "tpe, asha": {"search": "tpe", "prune": "asha"},
    "random, asha from a third": {"search": "random", "prune": "asha", "pruning": {"min_fraction": 0.33}},
    "tpe, asha from a third": {"search": "tpe", "prune": "asha", "pruning": {"min_fraction": 0.33}},
    "tpe, successive halving": {"search": "tpe", "prune": "successive_halving"},
    "tpe, hyperband": {"search": "tpe", "prune": "hyperband"},
    "random, median": {"search": "random", "prune": "median"},
    "tpe, median": {"search": "tpe", "prune": "median"},
}
Setting = tuple[str, ...]


class Table:
    """The learning curves by setting."""

    def __init__(self, file: Path) -> None:
        self.curves: dict[Setting, list[Evaluation]] = {}
        with file.open() as lines:
            rows = csv.DictReader(lines)
            self.keys = [name for name in rows.fieldnames or () if name not in OF_A_POINT]
            for row in rows:
                setting = tuple(row[key] for key in self.keys)
                point = Evaluation(float(row["fraction"]), float(row["entity_f1"]))
                self.curves.setdefault(setting, []).append(point)
        self.best = max(map(self.score, self.curves))

    def score(self, setting: Setting) -> float:
        return max(evaluation.value for evaluation in self.curves[setting])

    def space(self, spec: SweepSpec, shuffle: random.Random | None = None) -> Space:
        """Return the settings as a space; the order of the grid is anybody's, and drawn."""
        keys = list(self.keys)
        values = {key: list(dict.fromkeys(setting[n] for setting in self.curves)) for n, key in enumerate(self.keys)}
        if shuffle is not None:
            shuffle.shuffle(keys)
            for options in values.values():
                shuffle.shuffle(options)
        return Space.parse([f"{key}={','.join(values[key])}" for key in keys], spec)

    def setting(self, proposal: Proposal) -> Setting:
        given = dict(text.split("=", 1) for text in proposal.overrides)
        return tuple(given[key] for key in self.keys)


def replay(name: str, table: Table, within: float, seed: int) -> float:
    """Return the full-run equivalents until a good setting has been trained to its end."""
    spec = SweepSpec(seed=seed, **SEARCHES[name])
    space = table.space(spec, random.Random(seed))
    plan = make_plan(spec, space, {"selection.value": "max"}, _no_default)
    spent = 0.0
    reached: dict[Proposal, float] = {}
    while (proposal := plan.ask()) is not None:
        curve = table.curves[table.setting(proposal)]
        outcome, fraction = train(plan, proposal, curve, reached.get(proposal, 0.0))
        spent += fraction - reached.get(proposal, 0.0)
        reached[proposal] = fraction
        plan.tell(proposal, outcome)
        if outcome.status == "completed" and outcome.values[0] >= table.best - within:
            return spent
    return float(len(table.curves))


def train(plan: Plan, proposal: Proposal, curve: Sequence[Evaluation], begun: float) -> tuple[Outcome, float]:
    """Go on with a trial from a fraction of its training, until it is pruned or over."""
    for n, evaluation in enumerate(curve):
        if evaluation.fraction <= begun:
            continue
        if not plan.report(proposal, evaluation) and evaluation is not curve[-1]:
            so_far = tuple(curve[: n + 1])
            return Outcome("pruned", (max(e.value for e in so_far),), so_far), evaluation.fraction
    return Outcome("completed", (max(e.value for e in curve),), tuple(curve)), 1.0


def _no_default(key: str, overrides: Sequence[str]) -> float:
    raise AssertionError("every dimension is named")


def intervals(costs: Sequence[float], draws: int = 1000) -> Iterator[str]:
    """Yield median and 90th percentile with their 95 % intervals."""
    draw = random.Random(0)
    samples = [sorted(draw.choices(costs, k=len(costs))) for _ in range(draws)]
    for share in (0.5, 0.9):
        found = sorted(sample[min(len(sample) - 1, int(share * len(sample)))] for sample in samples)
        value = sorted(costs)[min(len(costs) - 1, int(share * len(costs)))]
        yield f"{value:6.1f} ({found[int(0.025 * draws)]:.1f} to {found[int(0.975 * draws)]:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="?", default=200)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(SEARCHES), help=", ".join(SEARCHES))
    parser.add_argument("--within", type=float, default=0.005, help="of the best F1, by default 0.005")
    chosen = parser.parse_args()
    table = Table(CURVES)
    good = sum(table.score(setting) >= table.best - chosen.within for setting in table.curves)
    print(f"{len(table.curves)} settings, best F1 {table.best:.4f}, {good} within {100 * chosen.within:g} points of it")
    print(f"{'search':26} median, full runs        90th percentile          mean    (of {chosen.seeds} seeds)")
    with ProcessPoolExecutor() as processes:
        for name in chosen.names:
            costs = list(processes.map(functools.partial(replay, name, table, chosen.within), range(chosen.seeds)))
            median, high = intervals(costs)
            print(f"{name:26} {median:24} {high:24} {statistics.mean(costs):6.1f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
