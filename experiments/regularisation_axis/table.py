"""Write results.md from the records of ``run.sh``: the mean of each arm, and its difference to none, paired by seed."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

HERE = Path(__file__).resolve().parent
SWEEPS = HERE.parents[1] / "sweeps" / "regularisation_axis"
PLACEBO = 10
"""The least seed of the placebo, whose seed 10 + n stands beside seed n of none."""


def arms(folder: Path) -> dict[tuple[str, str], dict[int, dict]]:
    """Return the finished runs of a sweep by method, arm and seed."""
    runs: dict[tuple[str, str], dict[int, dict]] = defaultdict(dict)
    for file in sorted(folder.glob("*/record.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["status"] == "completed":
            seed, told = record["environment"]["seeds"]["global"], record.get("regularizers", {})
            arm = "placebo" if seed >= PLACEBO else "+".join(sorted(told)) or "none"
            runs[record["method"]["name"], arm][seed % PLACEBO] = record
    return runs


def test_score(record: dict) -> float:
    """Return the score on test by which the best checkpoint was selected on validation."""
    name = record["selection"]["metric"]
    (score,) = [one["value"] for one in record["metrics"] if one["name"] == name and one["split"] == "test"]
    return 100 * score


def rows(runs: dict[tuple[str, str], dict[int, dict]]) -> list[str]:
    """Return the rows of a table, the greatest difference first."""
    found = []
    for (method, arm), of_arm in runs.items():
        scores = {seed: test_score(record) for seed, record in of_arm.items()}
        none = {seed: test_score(record) for seed, record in runs.get((method, "none"), {}).items()}
        paired = np.asarray([scores[seed] - none[seed] for seed in sorted(scores.keys() & none.keys())])
        difference, interval = (paired.mean() if len(paired) else np.nan), ""
        if len(paired) > 1 and arm != "none":
            half = stats.t.ppf(0.975, len(paired) - 1) * paired.std(ddof=1) / np.sqrt(len(paired))
            interval = f"{difference:+.2f} [{difference - half:+.2f}, {difference + half:+.2f}]"
        values = np.asarray(list(scores.values()))
        spread = f"{values.std(ddof=1):.2f}" if len(values) > 1 else "-"
        seconds = np.median([record["cost"]["train_seconds"] for record in of_arm.values()])
        text = f"| {method} | {arm} | {len(values)} | {values.mean():.2f} | {spread} | {interval} | {seconds:.0f} |"
        found.append((method, -difference, text))
    return [text for *_, text in sorted(found)]


def main() -> None:
    """Write a table for each sweep."""
    lines = ["# Results", "", "Test scores times 100; differences to none, paired by seed, with 95 % intervals.", ""]
    for folder in sorted(SWEEPS.iterdir()):
        lines += [f"## {folder.name}", "", "| method | arm | n | mean | SD | difference | training seconds |"]
        lines += ["|---|---|---|---|---|---|---|", *rows(arms(folder)), ""]
    (HERE / "results.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
