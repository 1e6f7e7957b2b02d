"""A document with every kind of block and figure. Its numbers are invented, for tests only; some names are hostile."""

from __future__ import annotations

import math
from typing import Any

from peftlab.report.document import (
    Cell,
    Checklist,
    Column,
    Document,
    Figure,
    Finding,
    Findings,
    Highlight,
    Highlighted,
    Item,
    Listing,
    Paragraph,
    Section,
    Table,
)

HOSTILE = "<script>alert(1)</script> & $x^2$ \x00\u202e\"'"
"""A name that a stranger wrote."""
METHODS = ("full", "lora", "adalora", "bitfit", "prefix", "head only", "ia3", "adapter")
SCORES = (0.9124, 0.9097, 0.9081, 0.8832, 0.8647, 0.7213, 0.8721, 0.9052)
PARAMETERS = (107_719_689, 294_912, 442_368, 102_921, 368_640, 6_921, 64_521, 894_528)
SECONDS = (2710, 1430, 1720, 1210, 1390, 410, 1255, 1515)
F1: dict[str, Any] = {"label": "Entity F1", "unit": "percent"}


def around(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


FIGURES = {
    "learning_curves": {
        "x": {"label": "Epoch"},
        "y": F1,
        "band": "95 % interval over 5 seeds",
        "series": [
            {
                "label": method,
                "x": [step / 4 for step in range(1, 21)],
                "mean": [score - 0.35 * math.exp(-step / (2.5 + index)) for step in range(1, 21)],
                "low": [score - 0.01 - 0.38 * math.exp(-step / (2.5 + index)) for step in range(1, 21)],
                "high": [score + 0.01 - 0.32 * math.exp(-step / (2.5 + index)) for step in range(1, 21)],
            }
            for index, (method, score) in enumerate(zip(METHODS[:4], SCORES[:4], strict=True))
        ],
    },
    "pareto": {
        "x": {"label": "Trainable parameters", "unit": "count"},
        "y": F1,
        "points": [
            {"label": method, "x": parameters, "y": around(score, 0.006)}
            for method, parameters, score in zip(METHODS, PARAMETERS, SCORES, strict=True)
        ],
    },
    "seeds": {
        "x": F1,
        "groups": [
            {
                "label": HOSTILE if method == "head only" else method,
                "seeds": [{"seed": seed, "value": score + 0.004 * math.sin(seed * 2.3 + score)} for seed in range(5)],
                "mean": around(score, 0.0035),
            }
            for method, score in zip(METHODS, SCORES, strict=True)
        ],
    },
    "tuning_curve": {
        "y": F1,
        "series": [
            {
                "label": method,
                "budget": list(range(1, 17)),
                "best": [score - 0.05 / trials for trials in range(1, 17)],
                "low": [score - 0.02 - 0.06 / trials for trials in range(1, 17)],
                "high": [score + 0.004 - 0.03 / trials if trials < 12 else None for trials in range(1, 17)],
            }
            for method, score in zip(METHODS[:3], SCORES[:3], strict=True)
        ],
    },
    "importance": {
        "shares": [
            {"label": "optimizer.lr", "share": 0.61, "sd": 0.07},
            {"label": "peft.r", "share": 0.14, "sd": 0.05},
            {"label": "optimizer.weight_decay", "share": 0.03, "sd": 0.02},
            {"label": HOSTILE, "share": 0.01},
        ]
    },
    "slices": {
        "x": {"label": "optimizer.lr"},
        "y": F1,
        "points": [
            {
                "x": 10 ** (-5 + trial / 8),
                "y": 0.91 - 0.02 * (trial / 8 - 1.4) ** 2 - 0.01 * (trial % 3),
                "label": METHODS[trial % 2],
                "note": f"trial {trial}",
            }
            for trial in range(20)
        ],
    },
    "abstention": {
        "x": {"label": "Threshold"},
        "points": [
            {
                "threshold": step / 2 - 3,
                "answered": 0.9 - 0.09 * step,
                "asked": 0.1 - 0.01 * step,
                "escalated": 0.1 * step,
                "wrong_answers": None if step == 10 else 0.05,
            }
            for step in range(11)
        ],
        "chosen": -1.2,
    },
    "confusion": {
        "labels": ["negative", "neutral", "positive"],
        "counts": [[1184, 203, 41], [171, 1390, 166], [29, 188, 1342]],
    },
    "per_type": {
        "x": F1,
        "series": [
            {
                "label": method,
                "types": [
                    {"type": kind, "score": around(score + shift, 0.012)}
                    for kind, shift in (("PER", 0.045), ("LOC", 0.02), ("ORG", -0.01), ("MISC", -0.1))
                ],
            }
            for method, score in zip(METHODS[:3], SCORES[:3], strict=True)
        ],
    },
    "reliability": {
        "series": [
            {
                "label": method,
                "ece": ece,
                "bins": [
                    {
                        "low": low / 10,
                        "high": (low + 1) / 10,
                        "number": 30 * (low - 2) ** 2 if low > 3 else 0,
                        "confidence": low / 10 + 0.05 if low > 3 else None,
                        "accuracy": low / 10 + 0.05 - ece * (1 + low % 2) if low > 3 else None,
                    }
                    for low in range(10)
                ],
            }
            for method, ece in (("full", 0.061), ("lora", 0.024))
        ]
    },
    "robustness": {
        "x": {"label": "Change of entity F1", "unit": "percent"},
        "series": [
            {
                "label": method,
                "slices": [
                    {"slice": name, "change": around(drop * factor, 0.009)}
                    for name, drop in (("typing errors", -0.11), ("lower case", -0.27), ("negation", 0.002))
                ],
            }
            for method, factor in (("full", 1.0), ("lora", 0.86))
        ],
    },
    "roc": {
        "series": [
            {"label": method, "x": [0.0, 0.001, 0.01, 0.1, 1.0], "y": [0.0, *(min(1.0, factor * y) for y in hits), 1.0]}
            for method, factor in (("loss", 1.0), ("lira_online", 4.0))
            for hits in [(0.002, 0.03, 0.2)]
        ]
    },
    "explanation": {
        "x": {"label": "Above random orders"},
        "series": [
            {
                "label": method,
                "explainers": [
                    {"explainer": name, "above": around(above * factor, 0.04)}
                    for name, above in (("ig", 0.61), ("occlusion", 0.74), ("attention", -0.02))
                ],
            }
            for method, factor in (("full", 1.0), ("lora", 0.9))
        ],
    },
    "fairness": {
        "x": {"label": "Value", "unit": "percent"},
        "groups": [
            {
                "label": group,
                "metrics": [
                    {"metric": metric, "value": around(value + shift, 0.03)}
                    for metric, value in (("accuracy", 0.86), ("fnr/negative", 0.11))
                ],
            }
            for group, shift in (("female", 0.02), ("male", -0.02), ("female+male", 0.0))
        ],
    },
    "differences": {
        "x": F1,
        "baseline": "full",
        "margin": 0.005,
        "rows": [
            {"label": method, "difference": around(score - SCORES[0], 0.004), "verdict": verdict}
            for method, score, verdict in zip(
                METHODS[1:4], SCORES[1:4], ("not told apart", "not told apart", "worse"), strict=True
            )
        ],
    },
    "variance": {
        "unit": "documents",
        "rows": [
            {"label": method, "seed": 0.00001 * (index + 1), "cluster": 0.0002, "rest": 0.00002}
            for index, method in enumerate(METHODS[:4])
        ],
    },
    "shares_over_time": {
        "windows": [f"2026-03-{day:02}T00:00:00+00:00" for day in range(1, 21)],
        "baseline": (0, 9),
        "y": {"label": "Opinion", "unit": "percent"},
        "band": "95 % interval",
        "series": [
            {
                "label": label,
                "share": [None if day == 4 else share + 0.1 * (day > 14) for day in range(20)],
                "low": [None if day == 4 else share - 0.05 for day in range(20)],
                "high": [None if day == 4 else share + 0.15 for day in range(20)],
                "alerts": [15] if index else [],
            }
            for index, (label, share) in enumerate((("negative", 0.3), (HOSTILE, 0.5)))
        ],
    },
}
"""Data of a figure of each kind."""


def figure(kind: str) -> Figure:
    return Figure(kind.replace("_", "-"), kind, FIGURES[kind], f"What {kind.replace('_', ' ')} looks like.")


def table() -> Table:
    columns = (
        Column("Method"),
        Column("Entity F1", numeric=True, note="%, 5 seeds"),
        Column("95 % interval", note="seeds and documents"),
        Column("Trainable", numeric=True),
        Column("Time", numeric=True, note="minutes"),
        Column("Against full"),
    )
    rows = [
        (
            Cell(HOSTILE if method == "head only" else method),
            Cell(f"{100 * score:.2f}", score, strong=index == 0),
            Cell(f"{100 * score - 0.6:.2f} to {100 * score + 0.6:.2f}"),
            Cell(f"{parameters:,}", parameters),
            Cell(f"{seconds / 60:.1f}" if index != 3 else "unknown", seconds / 60 if index != 3 else None),
            Cell("baseline" if index == 0 else "not told apart", note="" if index else "tuned with the same budget"),
        )
        for index, (method, score, parameters, seconds) in enumerate(
            zip(METHODS, SCORES, PARAMETERS, SECONDS, strict=True)
        )
    ]
    return Table("scores", columns, tuple(rows), "Scores on the test split, entity F1 by the CoNLL scorer.")


DOCUMENT = Document(
    title="Which method for named entities?",
    subtitle="40 runs of 8 methods on conll2003, 5 seeds each",
    sections=(
        Section(
            "summary",
            "Summary",
            (
                Paragraph(
                    "LoRA cannot be told apart from full fine-tuning: 90.97 against 91.24 entity F1, a difference of "
                    "0.27 points with a 95 % interval from 0.13 above to 0.67 below. It trains 0.27 % of the "
                    "parameters and takes 53 % of the time."
                ),
                Paragraph("Of the eight methods only the head alone, prefixes and IA³ are clearly worse."),
                Findings(
                    (
                        Finding(
                            "unequal_budget",
                            "warning",
                            "full was tuned with 8 trials, lora with 16. A larger budget "
                            "alone makes a method look better.",
                            ("sweeps/ner/3f2a9c1d0b7e", HOSTILE),
                        ),
                        Finding("one_seed", "error", "ia3 was run with one seed: nothing can be claimed about it.", ()),
                        Finding(
                            "dirty_code",
                            "note",
                            "The code of all runs had changes that no commit has.",
                            tuple(f"sweeps/ner/{number:012x}" for number in range(12)),
                        ),
                    )
                ),
            ),
        ),
        Section(
            "scores",
            "Scores",
            (table(), figure("seeds"), figure("per_type"), figure("confusion")),
            (
                Section("training", "Training", (figure("learning_curves"),)),
                Section("calibration", "Calibration", (figure("reliability"),)),
            ),
        ),
        Section("comparison", "Comparison", (figure("differences"), figure("variance"))),
        Section(
            "search", "Search", (figure("tuning_curve"), figure("importance"), figure("slices"), figure("abstention"))
        ),
        Section("cost", "Cost", (figure("pareto"),)),
        Section("robustness", "Robustness", (figure("robustness"),)),
        Section("fairness", "Fairness", (figure("fairness"),)),
        Section("audit", "Audit", (figure("roc"),)),
        Section("stream", "Stream", (figure("shares_over_time"),)),
        Section(
            "explanation",
            "Explanation",
            (
                Highlighted(
                    (Highlight("good", 1.0, "+1.2"), Highlight(HOSTILE, -0.4, HOSTILE), Highlight(".", 0.01, "+0")),
                    "What speaks for it, and what against it.",
                ),
                figure("explanation"),
            ),
        ),
        Section(
            "repeat",
            "How to repeat this",
            (
                Paragraph("Each line repeats a run and says whether the result is the same."),
                Listing(
                    (
                        "peftlab reproduce sweeps/ner/3f2a9c1d0b7e",
                        "python -m train +experiment=ner_lora optimizer.lr=3e-4 seed=1 " + "x" * 80,
                    )
                ),
            ),
        ),
        Section(
            "checklist",
            "Checklists",
            (
                Checklist(
                    "ML reproducibility checklist (Pineau et al. 2021)",
                    (
                        Item("Is the splitting of the data described?", "yes", "The digests of all three splits."),
                        Item("Is the code public?", "unknown", ""),
                        Item("Is the central tendency given with its variation?", "partly", f"See {HOSTILE}"),
                        Item("Are the theorems proved?", "not applicable", "There are none."),
                    ),
                ),
            ),
        ),
    ),
    numbers={"scores": dict(zip(METHODS, SCORES, strict=True))},
)
