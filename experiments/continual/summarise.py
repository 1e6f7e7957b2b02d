"""Print what the studies of this folder have shown, as Markdown: ``python summarise.py STREAMS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MEASURES = ("accuracy", "learnt", "forgetting")
BAR = 0.849
"""Nearest class mean on all 77 intents, on the frozen encoder, measured before."""


def main(streams: Path) -> None:
    """Print the tables of each finished study, and the verdicts."""
    studies = {file.parent.name: json.loads(file.read_text()) for file in sorted(streams.glob("*/stream.json"))}
    for name, study in studies.items():
        print(f"## {name}: {study['scenario']}\n\n| | {' | '.join(MEASURES)} | of the way to joint |")
        print(f"|---|{'--:|' * (len(MEASURES) + 1)}")
        for who, of in [*study["contenders"].items(), *study["controls"].items()]:
            part = of.get("closed")
            cells = [*(shown(of[measure]) for measure in MEASURES), "" if part is None else f"{part:.0%}"]
            print(f"| {who} | {' | '.join(cells)} |")
        seconds = sum(run.get("seconds") or 0 for run in study["runs"].values())
        print(f"\n{len(study['runs'])} runs, {seconds / 60:.0f} minutes of training.\n")
    for verdict in verdicts(studies):
        print(f"- {verdict}")


def shown(found: dict[str, Any] | None) -> str:
    """Return a value with its interval in percent."""
    if found is None:
        return "-"
    limits = "" if found["low"] is None else f" [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
    return f"{100 * found['value']:.1f}{limits}"


def difference(study: dict[str, Any], one: str, two: str, measure: str) -> dict[str, Any] | None:
    """Return the paired difference of two contenders, the first minus the second; None: not there."""
    for each in study["differences"]:
        if each["of"] == [one, two] and each["measure"] == measure:
            return dict(each)
    return None


def verdicts(studies: dict[str, Any]) -> list[str]:
    """Return what was asked of the studies, each with its answer."""
    answers = []
    if tasks := studies.get("four_tasks"):
        found = difference(tasks, "full", "lora", "forgetting")
        if found is not None:
            sure = found["low"] is not None and found["low"] > 0
            answers.append(f"full forgets more than LoRA: {'yes' if sure else 'not shown'}, {shown(found)} points")
    if classes := studies.get("four_classes"):
        part = classes["contenders"]["replay"]["closed"]
        if part is not None:
            answers.append(f"5 a class close {part:.0%} of the gap to joint; asked: 80 % or more")
    if intents := studies.get("stream_banking77"):
        mean = intents["controls"]["nearest_mean"]["accuracy"]["value"]
        answers.append(f"nearest class mean on 77 intents: {mean:.3f} (measured before: {BAR})")
        for name in ("ewc", "replay"):
            if name in intents["contenders"]:
                own = intents["contenders"][name]["accuracy"]["value"]
                side = "above" if own > mean else "below"
                answers.append(f"{name} on 77 intents: {own:.3f}, {side} the nearest class mean")
    return answers


if __name__ == "__main__":
    main(Path(sys.argv[1]))
