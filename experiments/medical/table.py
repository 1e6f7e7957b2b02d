"""The table of `run.sh`: accuracy and macro F1 over all folds, each with its interval, and by seed for the runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from baselines import FOLDS, baselines

from peftlab.report.statistics.bootstrap import bootstrap, paired_bootstrap
from peftlab.report.statistics.measured import score_of
from peftlab.runs.folder import read_predictions
from peftlab.runs.record import RunRecord
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.paired import counts_of

SCORER = ClassScores(["yes", "no", "maybe"])


def main(runs: Path, out: Path) -> None:
    """Write the table of the runs in `runs` to `out`, and print it."""
    methods = {name: [answers] for name, answers in baselines().items()}
    seeds = sorted({folder.name.split("-")[1] for folder in runs.glob("lora-*") if finished(folder)})
    whole = [seed for seed in seeds if all(finished(runs / f"lora-{seed}-{fold}") for fold in range(1, FOLDS + 1))]
    methods["LoRA on MiniLM"] = [
        [
            answer | {"id": f"{fold}:{answer['id']}"}
            for fold in range(1, FOLDS + 1)
            for answer in read_predictions(runs / f"lora-{seed}-{fold}" / "predictions" / "test.jsonl")
        ]
        for seed in whole
    ]
    lines = [
        f"{len(methods['majority'][0])} questions in {FOLDS} folds; seeds: {', '.join(whole) or 'none is finished'}.",
        "",
        "| | accuracy | 95 % over questions | macro F1 | by seed (accuracy) | accuracy less that of TF-IDF |",
        "|---|---|---|---|---|---|",
    ]
    tf_idf = in_order(methods["TF-IDF"][0])
    for name, sets in methods.items():
        if not sets:
            continue
        counts = np.mean([in_order(answers) for answers in sets], axis=0)  # of a mean over seeds, by question
        accuracy, f1 = (bootstrap(counts, score_of(SCORER, metric)) for metric in ("accuracy", "macro_f1"))
        apart = paired_bootstrap(counts, tf_idf.astype(float), score_of(SCORER, "accuracy"))
        of_seeds = [SCORER.scores(in_order(answers).sum(axis=0))["accuracy"] for answers in sets]
        by_seed = ", ".join(f"{value:.3f}" for value in of_seeds) if len(sets) > 1 else ""
        less = "" if name == "TF-IDF" else f"{apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f})"
        interval = f"{accuracy.low:.3f} to {accuracy.high:.3f}"
        lines.append(f"| {name} | {accuracy.value:.3f} | {interval} | {f1.value:.3f} | {by_seed} | {less} |")
    text = "\n".join(lines) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(text, end="")


def finished(folder: Path) -> bool:
    """Return whether a run is completed."""
    return (folder / "record.json").is_file() and RunRecord.load(folder).data["status"] == "completed"


def in_order(answers: list[dict]) -> np.ndarray:
    """Return the counts of answers in the order of their questions."""
    return counts_of(SCORER, sorted(answers, key=lambda answer: answer["id"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
