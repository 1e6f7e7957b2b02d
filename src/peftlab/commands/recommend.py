"""``peftlab recommend``: the items that a run recommends, and how it compares with simple recommenders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from peftlab.commands import loaded
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_run, positive_whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "use"
SUMMARY = "recommend items, or compare a run with simple recommenders"
DESCRIPTION = (
    "Every ranking is over all items that the user has not had: none is sampled, for ranks among a sample favour other "
    "recommenders than those among all."
)
EXAMPLES = (
    "peftlab recommend 3f9c2a --user 196 --top 10            # what this user may want next",
    "peftlab recommend 3f9c2a --history bought.csv           # the same of somebody new, by a column of items",
    "peftlab recommend 3f9c2a --evaluate                     # beside popularity, item-kNN, TF-IDF and EASE",
    "peftlab recommend 3f9c2a --evaluate --against item_knn  # beside one of them",
)

AGAINST = "popularity,item_knn,recent_knn,tf_idf,ease"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and whom to recommend to, or what to compare with."""
    add_run(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--user", metavar="ID", help="recommend to this user of the run's data")
    what.add_argument("--history", metavar="FILE", help="recommend after these items, a CSV file, the oldest first")
    what.add_argument("--evaluate", action="store_true", help="compare the run's test rankings with those of baselines")
    parser.add_argument("--top", type=positive_whole_number, metavar="N", help="items (default 10)")
    parser.add_argument(
        "--against",
        metavar="NAMES",
        help=f"with --evaluate: which of {AGAINST} (default: all that have something to read)",
    )


def execute(options: argparse.Namespace) -> None:
    """Recommend, or compare."""
    if options.against and not options.evaluate:
        raise UserError("--against names what --evaluate compares with: add --evaluate")
    if options.evaluate and options.top is not None:
        raise UserError("--top says how many items are recommended; --evaluate scores the first 10 and 50 of rankings")
    run = loaded(options)
    from peftlab.use.recommend import compare, recommend

    if not options.evaluate:
        items = recommend(run, options.top or 10, options.user, options.history and Path(options.history))
        if options.json:
            print_json([vars(item) for item in items])
        else:
            rows = [[str(n), cell(item.item), cell(item.title), cell(item.score)] for n, item in enumerate(items, 1)]
            print(table([["", "item", "title", "score"], *rows]))
        return
    found = compare(run, options.against.split(",") if options.against else None)
    if options.json:
        counts = {"users": found.users, "rankings": found.rankings, "cold_rankings": found.cold_rankings}
        systems = [system.document() for system in found.systems]
        print_json(
            {
                "run": str(run.folder.path),
                **counts,
                "chance": found.chance,
                "chosen_by": found.chosen_by,
                "systems": systems,
            }
        )
    else:
        _print(found)


def _print(found: Any) -> None:
    names = list(found.systems[0].scores)
    for kind in ("", "cold_"):
        chosen = [name for name in names if name.startswith("cold_") == bool(kind)]
        if not chosen:
            continue
        rows = [["", *chosen]]
        for system in found.systems:
            rows.append([_named(system), *(_interval(system.scores[name]) for name in chosen)])
            if system.ahead:
                rows.append(["  the run is ahead by", *(_interval(system.ahead[name], sign=True) for name in chosen)])
        number = found.cold_rankings if kind else found.rankings
        print(f"{number:,} rankings of {'items kept out of training' if kind else 'items'}, all unseen ones in each")
        print(table(rows))
        print(f"chance: hit@10 {found.chance[f'{kind}chance@10']:.4f}\n")
    print(f"95 % intervals by a bootstrap over {found.users:,} users; differences are paired by user")
    if any(system.options for system in found.systems):
        print(f"options are those with the best {found.chosen_by} on the validation split")


def _named(system: Any) -> str:
    options = ", ".join(f"{name}={'all' if value is None else f'{value:g}'}" for name, value in system.options.items())
    return f"{system.name} ({options})" if options else str(system.name)


def _interval(score: Any, sign: bool = False) -> str:
    value = f"{score.value:+.4f}" if sign else f"{score.value:.4f}"
    return value if score.low is None else f"{value} [{score.low:.3f}, {score.high:.3f}]"
