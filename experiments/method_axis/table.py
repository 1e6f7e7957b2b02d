"""The results of the study, from runs.csv and speed.csv beside it: results.md, and f1_by_parameters.svg.

python experiments/method_axis/table.py
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from peftlab.catalogue.method_table import about, method_names
from peftlab.sweep.protocols import interval

HERE = Path(__file__).parent
HEAD = ["method", "family", "test F1, mean ± SD", "95 % interval", "n", "validation F1", "learning rate"]
HEAD += ["trainable", "adapter kB", "peak GiB", "samples/s", "of LoRA's"]
Run = dict[str, str]


def main() -> None:
    with (HERE / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    with (HERE / "speed.csv").open() as file:
        speeds = {line["method"]: line for line in csv.DictReader(file)}
    finals = {name: of(runs, name, "final") for name in method_names()}
    done = sorted((name for name in finals if finals[name]), key=lambda name: -mean(finals[name], "test_f1"))
    lines = [HEAD, ["---"] * len(HEAD), *(row(name, finals[name]) + speed(speeds.get(name)) for name in done)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if missing := [name for name in finals if not finals[name]]:
        text += f"\n\nNot yet run: {', '.join(missing)}."
    text += "\n\n" + tuned(runs, done)
    (HERE / "results.md").write_text(text + "\n", encoding="utf-8")
    draw({name: finals[name] for name in done}, HERE / "f1_by_parameters.svg")


def of(runs: Sequence[Run], method: str, phase: str) -> list[Run]:
    return [run for run in runs if (run["method"], run["phase"]) == (method, phase)]


def mean(runs: Sequence[Run], key: str) -> float:
    return statistics.fmean(float(run[key]) for run in runs)


def row(name: str, runs: Sequence[Run]) -> list[str]:
    def median(key: str) -> float:
        return statistics.median(float(run[key]) for run in runs)

    scores = [float(run["test_f1"]) for run in runs]
    low, high = interval(scores)
    spread = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    between = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    cells = [f"`{name}`", about(name).family, f"{statistics.fmean(scores):.4f}{spread}", between, str(len(scores))]
    cells += [f"{mean(runs, 'validation_f1'):.4f}", f"{float(runs[0]['lr']):g}"]
    cells += [f"{median('trainable_parameters'):,.0f}", f"{median('adapter_bytes') / 1e3:,.0f}"]
    return [*cells, f"{median('peak_memory_gib'):.2f}"]


def speed(line: Run | None) -> list[str]:
    return ["", ""] if line is None else [f"{float(line['samples_per_second']):.0f}", f"{float(line['of_lora']):.2f}"]


def tuned(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Return a table of the validation F1 at each learning rate that was tried."""
    lines = [["method", "a third of its rate", "its rate", "three times"], ["---"] * 4]
    for name in names:
        tried = sorted(of(runs, name, "search"), key=lambda run: float(run["lr"]))
        lines.append([f"`{name}`", *(f"{float(run['lr']):g}: {float(run['validation_f1']):.4f}" for run in tried)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(finals: dict[str, list[Run]], file: Path) -> None:
    """Draw the mean test F1 of each method, with its SD, over its trainable parameters."""
    mpl.rcParams["svg.hashsalt"] = "method_axis"  # the same runs give the same file
    figure, axes = plt.subplots(figsize=(11, 7), layout="constrained")
    families = list(dict.fromkeys(about(name).family for name in sorted(finals)))
    colour: Callable[[float], object] = mpl.colormaps["tab10"]
    for number, family in enumerate(families):
        names = [name for name in finals if about(name).family == family]
        sizes = [float(finals[name][0]["trainable_parameters"]) for name in names]
        scores = [[float(run["test_f1"]) for run in finals[name]] for name in names]
        axes.errorbar(
            sizes,
            list(map(statistics.fmean, scores)),
            [statistics.stdev(values) if len(values) > 1 else 0.0 for values in scores],
            fmt="o",
            capsize=2,
            label=family,
            color=colour(number),
        )
        for name, size, values in zip(names, sizes, scores, strict=True):
            at = (size, statistics.fmean(values))
            axes.annotate(name, at, xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.set(
        xscale="log", xlabel="trainable parameters, head included", ylabel="test entity F1, mean ± SD of the seeds"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
