"""Write results.md from the records of ``run.sh``: each arm beside supervised learning, paired by draw."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from peftlab.report.statistics.two_way import paired_crossed

BASELINE = "supervised"


def arm_of(config: Mapping[str, Any]) -> str:
    """Return the name of the arm that a configuration belongs to."""
    semi = config.get("semi")
    if semi is None:
        return "tapt, then supervised" if config.get("adapter") else BASELINE
    name = str(semi["_target_"].rpartition(".")[0].rpartition(".")[2])
    return f"{name} by the supervised run" if semi.get("teacher") else name


def runs_below(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the records of finished classifiers by arm and draw."""
    arms: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for file in sorted(folder.rglob("record.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        config = yaml.safe_load(file.with_name("config.yaml").read_text(encoding="utf-8"))
        if record["status"] == "completed" and config["task"]["name"] == "classification":
            arms[arm_of(config)][config["seed"]] = record
    return arms


def score(record: Mapping[str, Any], name: str) -> float:
    """Return a test score times 100."""
    (value,) = [one["value"] for one in record["metrics"] if (one["name"], one["split"]) == (name, "test")]
    return 100 * float(value)


def beside(own: Mapping[int, float], baseline: Mapping[int, float]) -> tuple[str, str]:
    """Return the paired difference with its 95 % interval, and whether it is called a gain or a loss."""
    draws = sorted(own.keys() & baseline.keys())
    if len(draws) < 2:
        return "", ""
    found = paired_crossed(np.asarray([[own[n] for n in draws]]), np.asarray([[baseline[n] for n in draws]]))
    if found.low is None or found.high is None:
        return f"{found.value:+.1f}", ""
    verdict = "gain" if found.low > 0 else "loss" if found.high < 0 else "neither"
    return f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]", verdict


def median(records: list[dict[str, Any]], key: str) -> str:
    """Return the median of what the records say about pseudo-labels; nothing where they have none."""
    values = [record["semi_supervised"][key] for record in records if record.get("semi_supervised", {}).get(key)]
    return f"{100 * np.median(values):.0f} %" if values else ""


def table(arms: Mapping[str, Mapping[int, dict[str, Any]]]) -> list[str]:
    """Return the lines of the table, the best arm first."""
    lines = [
        "| arm | draws | accuracy | macro F1 | paired difference of it | called | passed | right of these | time |",
        "|---|--:|--:|--:|---|---|--:|--:|--:|",
    ]
    scores = {arm: {draw: score(one, "macro_f1") for draw, one in own.items()} for arm, own in arms.items()}
    for arm in sorted(arms, key=lambda arm: -np.mean(list(scores[arm].values()))):
        own, records = scores[arm], list(arms[arm].values())
        accuracies = [score(one, "accuracy") for one in records]
        difference, verdict = ("", "") if arm == BASELINE else beside(own, scores.get(BASELINE, {}))
        seconds = np.median([one["cost"]["train_seconds"] for one in records])
        spread = f" ± {np.std(list(own.values()), ddof=1):.1f}" if len(own) > 1 else ""
        mean = np.mean(list(own.values()))
        lines.append(
            f"| {arm} | {len(own)} | {np.mean(accuracies):.1f} | {mean:.1f}{spread} | {difference} "
            f"| {verdict} | {median(records, 'mask_rate')} | {median(records, 'accuracy')} | {seconds:.0f} s |"
        )
    return lines


if __name__ == "__main__":
    folder, target = map(Path, sys.argv[1:3])
    text = "\n".join(table(runs_below(folder))) + "\n"
    target.write_text(text, encoding="utf-8")
    print(text, end="")
