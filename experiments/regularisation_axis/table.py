"""Write results.md from the records of ``run.sh``: each arm beside none, paired by seed, and its compute."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from scipy import stats

HERE = Path(__file__).resolve().parent
SWEEPS = HERE.parents[1] / "sweeps" / "regularisation_axis"
PLACEBO = 10
"""The least seed of the placebo, whose seed 10 + n stands beside seed n of none."""
SCREENED = 2
"""Seeds below it chose what the final compares: there, only the others are without selection."""


@dataclass
class Arm:
    """The finished runs of one choice, by seed."""

    scores: dict[int, float] = field(default_factory=dict)
    """Test scores times 100."""
    drops: dict[int, float] = field(default_factory=dict)
    """What ``attack.sh`` took from the score, times 100."""
    seconds: list[float] = field(default_factory=list)
    flops: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


def arms(folder: Path) -> dict[tuple[str, str], Arm]:
    """Return the arms of a sweep by method and name."""
    runs: dict[tuple[str, str], Arm] = defaultdict(Arm)
    for file in sorted(folder.glob("*/record.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["status"] != "completed":
            continue
        seed, acted = record["environment"]["seeds"]["global"], record.get("regularizers", {})
        options = yaml.safe_load(file.with_name("config.yaml").read_text(encoding="utf-8"))["regularizer"]
        name = "placebo" if seed >= PLACEBO else "+".join(named(one, options[one]) for one in sorted(acted)) or "none"
        arm, seed = runs[record["method"]["name"], name], seed % PLACEBO
        metric = record["selection"]["metric"]
        (score,) = [one["value"] for one in record["metrics"] if (one["name"], one["split"]) == (metric, "test")]
        arm.scores[seed] = 100 * score
        arm.seconds.append(record["cost"]["train_seconds"])
        arm.flops.append(record["cost"]["train_flops"])
        arm.steps.append(record["cost"]["steps"])
        kept = file.with_name("robustness.json")
        if kept.exists():
            outcomes = [one for document in json.loads(kept.read_text("utf-8")) for one in document["outcomes"]]
            arm.drops[seed] = 100 * next(one["drop"]["value"] for one in outcomes if one["perturbation"] == "pgd")
    return runs


def named(option: str, settings: Mapping[str, object]) -> str:
    """Return the name of a regulariser, with the strengths that are no longer its defaults."""
    usual = yaml.safe_load((HERE.parents[1] / "conf" / "regularizer" / f"{option}.yaml").read_text(encoding="utf-8"))
    others = [f"{key}={settings[key]}" for key, value in usual.items() if settings.get(key, value) != value]
    return f"{option} ({', '.join(others)})" if others else option


def paired(values: Mapping[int, float], none: Mapping[int, float], least: int = 0) -> str:
    """Return the mean difference over the seeds from `least` on that both have, with its 95 % interval over seeds."""
    seeds = sorted(seed for seed in values.keys() & none.keys() if seed >= least)
    if not seeds:
        return ""
    differences = np.asarray([values[seed] - none[seed] for seed in seeds])
    if len(seeds) == 1:
        return f"{differences[0]:+.2f}"
    half = stats.t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / np.sqrt(len(seeds))
    return f"{differences.mean():+.2f} [{differences.mean() - half:+.2f}, {differences.mean() + half:+.2f}]"


def spread(values: Mapping[int, float]) -> str:
    """Return mean and standard deviation."""
    of = np.asarray(list(values.values()))
    return f"{of.mean():.2f} ± {of.std(ddof=1):.2f}" if len(of) > 1 else f"{of.mean():.2f}"


def scored(runs: Mapping[tuple[str, str], Arm]) -> list[str]:
    """Return the table of scores, the best of each method first."""
    lines = [
        "| method | arm | seeds | score | difference to none | on seeds that chose nothing | steps | compute | time |",
        "|---|---|--:|--:|---|---|--:|--:|--:|",
    ]
    order = sorted(runs, key=lambda key: (key[0], -np.mean(list(runs[key].scores.values()))))
    for method, name in order:
        arm, none = runs[method, name], runs.get((method, "none"), Arm())
        own = name == "none"
        factors = [
            f"{np.median(of) / np.median(base):.2f}" if base else ""
            for of, base in ((arm.flops, none.flops), (arm.seconds, none.seconds))
        ]
        fresh = "" if own or name == "placebo" else paired(arm.scores, none.scores, SCREENED)
        lines.append(
            f"| {method} | {name} | {len(arm.scores)} | {spread(arm.scores)} "
            f"| {'' if own else paired(arm.scores, none.scores)} | {fresh} "
            f"| {np.median(arm.steps):.0f} | {factors[0]} | {factors[1]} |"
        )
    return lines


def attacked(runs: Mapping[tuple[str, str], Arm]) -> list[str]:
    """Return the table of what an attack takes; empty if none was made."""
    lines = ["", "| method | arm | seeds | drop under PGD | difference to none |", "|---|---|--:|--:|---|"]
    for (method, name), arm in sorted(runs.items()):
        if arm.drops:
            none = runs.get((method, "none"), Arm()).drops
            beside = "" if name == "none" else paired(arm.drops, none)
            lines.append(f"| {method} | {name} | {len(arm.drops)} | {spread(arm.drops)} | {beside} |")
    return lines if len(lines) > 3 else []


def main() -> None:
    """Write the tables of each sweep."""
    lines = [
        "# Results",
        "",
        "Test scores times 100, mean ± SD over seeds; differences to none, paired by seed, with 95 % intervals "
        "(Student's t). Compute and time of training are medians as multiples of none's; times are of a machine that "
        "did other work too. The placebo is none with other seeds.",
        "",
    ]
    for folder in sorted(one for one in SWEEPS.iterdir() if one.is_dir()):
        runs = arms(folder)
        if runs:
            lines += [f"## {folder.name}", "", *scored(runs), *attacked(runs), ""]
    (HERE / "results.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
