"""Sweeps as files, without training: records, configurations and predictions that fit together, as runs leave them.

The predictions are made up (gold answers with mistakes, fewer of a better method), all else follows from them and from
the configuration as in a run: scores by the real scorers, digests, identities. `Sweep.write` writes what a test has
changed before, so that a planted fault is the only one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from peftlab.runs.identity import identity, run_id_of
from peftlab.scores.bio import bio_labels, entities
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.scorer import Scorer

TYPES, LABELS = ["LOC", "ORG", "PER"], ["negative", "neutral", "positive"]
METHODS = {"full": (0.10, 110_000_000), "lora": (0.11, 300_000), "ia3": (0.16, 60_000), "head": (0.30, 2_000)}
"""The share of wrong answers of each method, and its trainable parameters."""
BEGIN = datetime(2026, 3, 1, 9, tzinfo=UTC)
WORDS = ["the", "of", "in", "a", "to", "and", "was", "by", "said", "yesterday", "report", "price", "game", "week"]


@dataclass
class PlannedRun:
    """A run before it is written; a test changes what it likes."""

    method: str
    seed: int
    config: dict[str, Any]
    error_rate: float
    data_sha256: dict[str, str]
    weights_sha256: str
    record: dict[str, Any] = field(default_factory=dict)
    """Sections of the record, laid over those that follow from the rest."""
    status: str = "completed"
    history: list[dict[str, Any]] = field(default_factory=list)
    """Events between the start and the end, besides the validations."""
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By split; made up if missing."""
    reached: float = 1.0
    """The share of its steps that were trained."""

    @property
    def is_tested(self) -> bool:
        """Whether it is scored on the test split."""
        return self.status == "completed" and bool(self.config["budget"]["test"])


@dataclass
class Sweep:
    """A sweep before it is written."""

    task: str
    runs: list[PlannedRun]
    gold: dict[str, list[dict[str, Any]]]
    """The examples of each split."""
    objectives: dict[str, str] = field(default_factory=lambda: {"selection.value": "max"})
    afterwards: list[Callable[[Path], None]] = field(default_factory=list)
    """What happens to the written folder."""

    @property
    def scorer(self) -> Scorer:
        """The scorer of the task."""
        return EntityScores(TYPES) if self.task == "ner" else ClassScores(LABELS)

    @property
    def finals(self) -> list[PlannedRun]:
        """The runs that are tested."""
        return [run for run in self.runs if run.is_tested]

    def of(self, method: str) -> list[PlannedRun]:
        """Return the tested runs of a method."""
        return [run for run in self.finals if run.method == method]

    def write(self, folder: Path) -> Path:
        """Write the sweep into `folder`, a run a folder, and return it."""
        folder.mkdir(parents=True)
        for number, run in enumerate(self.runs):
            _write(self, run, folder, BEGIN + timedelta(minutes=10 * number))
        description = {"schema_version": 1, "name": folder.name, "objectives": self.objectives, "status": "completed"}
        (folder / "sweep.json").write_text(json.dumps(description))
        for change in self.afterwards:
            change(folder)
        return folder


def planned(
    task: str = "ner",
    methods: Sequence[str] = ("full", "lora"),
    seeds: Sequence[int] = (0, 1, 2),
    *,
    trials: int = 0,
    examples: int = 60,
    groups: int = 12,
    draw: int = 0,
) -> Sweep:
    """Return a sound sweep.

    Args:
        task: ``ner`` or ``classification``.
        methods: of `METHODS`.
        seeds: those of the tested runs of every method.
        trials: how many trials of each method's search come before, not tested.
        examples: how many the test split has; the validation split has half as many.
        groups: how many documents they come from; 0: the data has none.
        draw: another number gives other texts and mistakes.
    """
    gold = {
        split: [
            _example(random.Random(f"{draw} {split} {n}"), task, f"{split}:{n}", str(n % groups) if groups else None)
            for n in range(number)
        ]
        for split, number in (("validation", examples // 2), ("test", examples))
    }
    digests = {split: _digest(f"{task} {draw} {split}") for split in ("train", "validation", "test")}
    runs = []
    for method in methods:
        rate, _ = METHODS[method]
        for number in range(trials):
            config = _config(task, method, 0, 1e-4 * 3**number) | {}
            config["budget"]["test"] = False
            worse = rate + 0.05 * number
            runs.append(PlannedRun(method, 0, config, worse, dict(digests), _digest("weights")))
        for seed in seeds:
            config = _config(task, method, seed, 1e-4)
            wrong = rate + random.Random(f"{draw} {method} {seed}").uniform(-0.02, 0.02)
            runs.append(PlannedRun(method, seed, config, wrong, dict(digests), _digest("weights")))
    return Sweep(task, runs, gold)


def cross_validated(sweep: Sweep, folds: int = 3) -> Sweep:
    """Return the sweep as a cross-validation: its test examples are those of the folds of the training split."""
    runs = []
    for run in sweep.runs:
        for number in range(folds):
            one = copy.deepcopy(run)
            one.config["data"]["fold"] = f"{number + 1}/{folds}"
            one.data_sha256["test"] = one.data_sha256["train"]
            gold = [example for example in sweep.gold["test"] if int(example["group"]) % folds == number]
            one.answers["test"] = _answers(Sweep(sweep.task, [], sweep.gold | {"test": gold}), one, "test")
            rows = {"train": 640, "validation": len(sweep.gold["validation"]), "test": len(gold)}
            splits = {
                split: {"file": f"{split}.txt", "rows": count, "truncated": 0, "dropped": {}}
                for split, count in rows.items()
            }
            overrides = [f"peft={run.method}", f"seed={run.seed}", f"data.fold={number + 1}/{folds}"]
            one.record |= {"data": {"splits": splits}, "overrides": overrides}
            runs.append(one)
    return Sweep(sweep.task, runs, sweep.gold)


def sound_sweeps() -> Iterator[tuple[str, Sweep]]:
    """Yield twenty sweeps without a fault, with a name each."""
    shapes: list[dict[str, Any]] = [
        {"methods": ("lora",)},
        {},
        {"seeds": (0, 1, 2, 3, 4)},
        {"methods": ("full", "lora", "head"), "seeds": (3, 5, 7)},
        {"methods": ("full", "lora", "ia3", "head"), "seeds": (0, 1, 2, 3)},
        {"trials": 3},
        {"methods": ("lora", "head", "ia3"), "trials": 4},
        {"groups": 0},
        {"examples": 20, "groups": 4},
        {"examples": 90, "groups": 30, "seeds": (10, 11, 12, 13, 14)},
    ]
    for task in ("ner", "classification"):
        for number, shape in enumerate(shapes):
            yield f"{task}-{number}", planned(task, draw=number, **shape)


def edited_record(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record of a written run, as one would in an editor."""
    file = run / "record.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    change(record)
    file.write_text(json.dumps(record, indent=2), encoding="utf-8")


def run_folders(sweep: Path, method: str | None = None, tested: bool = True) -> list[Path]:
    """Return the folders of the runs of a written sweep, in the order of their start."""
    records = {file.parent: json.loads(file.read_text(encoding="utf-8")) for file in sweep.glob("*/record.json")}
    chosen = {
        folder: record
        for folder, record in records.items()
        if method in (None, record["method"]["name"])
        and tested <= any(score["split"] == "test" for score in record["metrics"])
    }
    return sorted(chosen, key=lambda folder: str(chosen[folder]["started_at"]))


def _write(sweep: Sweep, run: PlannedRun, sweep_folder: Path, begun: datetime) -> None:
    own = identity(run.config, run.data_sha256, run.weights_sha256)
    folder = sweep_folder / run_id_of(own)
    folder.mkdir()
    scorer, metric = sweep.scorer, run.config["task"]["selection"]["metric"]
    record = _record(sweep, run, own, begun)
    if run.status == "completed":
        for split in ("validation", "test") if run.is_tested else ("validation",):
            answers = run.answers.get(split) or _answers(sweep, run, split)
            (folder / "predictions").mkdir(exist_ok=True)
            lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
            (folder / "predictions" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
            values = scorer.details(scorer.total(answers)) | {"loss": _loss(answers)}
            record["metrics"] += [
                {"name": name, "split": split, "value": value, "checkpoint": "best", "scorer": scorer.name}
                for name, value in values.items()
            ]
        best = next(one["value"] for one in record["metrics"] if one["name"] == metric)
        of, steps = record["cost"].pop("of"), record["cost"]["steps"]
        record["selection"] |= {"value": best, "epoch": 2, "step": steps}
        for part in (1, 2, 3):
            event = {"event": "validated", "step": steps * part // 3, "of": of, metric: best * (0.7 + 0.1 * part)}
            record["history"].append({"at": _time(begun, 2 * part), **event})
        record["history"][-1][metric] = best
    record["cost"].pop("of", None)
    record["history"] += [{"at": _time(begun, 7), **event} for event in run.history]
    record["history"].append({"at": _time(begun, 8), "event": run.status})
    (folder / "config.yaml").write_text(
        yaml.dump(run.config, Dumper=yaml.CSafeDumper, sort_keys=False), encoding="utf-8"
    )
    (folder / "packages.txt").write_text("numpy==2.4.0\n", encoding="utf-8")
    for section, entries in copy.deepcopy(run.record).items():
        record[section] = record.get(section, {}) | entries if isinstance(entries, dict) else entries
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        size, digest = file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()
        record["files"].append({"path": file.relative_to(folder).as_posix(), "bytes": size, "sha256": digest})
    (folder / "record.json").write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")


def _record(sweep: Sweep, run: PlannedRun, own: dict[str, Any], begun: datetime) -> dict[str, Any]:
    ner, config = sweep.task == "ner", run.config
    overrides = [f"peft={run.method}", f"optimizer.lr={config['optimizer']['lr']}", f"seed={run.seed}"]
    overrides += [] if config["budget"]["test"] else ["budget.test=false"]
    steps, parameters = round(120 * run.reached), METHODS[run.method][1]
    rows = {"train": 640, **{split: len(examples) for split, examples in sweep.gold.items()}}
    seconds = (20 + parameters / 1e7) * run.reached + run.seed / 10
    return {
        "schema_version": 1,
        "run_id": run_id_of(own),
        "name": "made_up",
        "status": run.status,
        "started_at": _time(begun, 0),
        "ended_at": _time(begun, 8),
        "command": ["python", "-m", "train", "-m", f"peft={run.method}"],
        "overrides": overrides,
        "identity": own,
        "code": {"version": "0.1.0", "commit": "c0ffee" * 6 + "c0ff", "dirty": False, "diff_sha256": None},
        "environment": {
            **{"python": "3.11.9", "packages_sha256": _digest("packages"), "platform": "Linux", "cpu": "a CPU"},
            **{"isa": "AVX2", "threads": 1, "accelerators": [], "devices": 1, "num_nodes": 1, "world_size": 1},
            **{"strategy": "single_device", "effective_batch_size": 16, "precision": "32-true"},
            **{"deterministic": True, "nondeterministic_parts": [], "seeds": {"global": run.seed}},
        },
        "data": {
            "name": config["data"]["name"],
            "splits": {
                split: {"file": f"{split}.txt", "rows": number, "truncated": 0, "dropped": {}}
                for split, number in rows.items()
            },
            "labels": bio_labels(TYPES) if ner else LABELS,
            "train_test_overlap": 0,
            "licence": "CC BY 4.0",
        },
        "method": {
            "name": run.method,
            "trainable_parameters": parameters,
            "total_parameters": 110_000_000,
            "adapter_bytes": 4 * parameters,
        },
        "selection": {
            **{"metric": config["task"]["selection"]["metric"], "split": "validation", "mode": "max"},
            **{"value": None, "epoch": None, "step": None, "sha256": _digest(own["sha256"])},
        },
        "metrics": [],
        "cost": {
            **{"wall_seconds": seconds + 5, "train_seconds": seconds, "steps": steps, "epochs": 3.0 * run.reached},
            **{"samples_per_second": 640 * 3 / seconds, "tokens_per_second": 20_000 / seconds},
            **{"peak_memory_gib": 1 + parameters / 1e8, "train_flops": 1e12 * run.reached, "of": 120},
        },
        "history": [{"at": _time(begun, 0), "event": "started"}],
        "files": [],
        "error": None if run.status == "completed" else {"type": "RuntimeError", "message": "made up"},
    }


def _config(task: str, method: str, seed: int, rate: float) -> dict[str, Any]:
    ner = task == "ner"
    return {
        "model": {"name": "tiny", "path": None, "attention": "sdpa", "dropout": 0.1},
        "data": {
            **{"name": "news" if ner else "reviews", "path": None, "duplicates": "keep", "clean": None, "fold": None},
            **{"splits": {split: f"{split}.txt" for split in ("train", "validation", "test")}, "max_tokens": 128},
            **{"labels": list(TYPES if ner else LABELS), "batch_size": 16, "workers": 0},
        },
        "task": {
            "_target_": f"peftlab.tasks.{'ner.Ner' if ner else 'classification.Classification'}",
            "name": task,
            "label_smoothing": 0.0,
            "selection": {"metric": "entity_f1" if ner else "macro_f1", "mode": "max"},
        },
        "peft": {"_target_": "peftlab.methods.library.Method", "name": method, "learning_rate": 1e-4},
        "optimizer": {"lr": rate, "weight_decay": 0.01},
        "scheduler": {"_target_": "peftlab.schedules.Linear", "warmup_fraction": 0.1},
        "trainer": {"accelerator": "cpu", "precision": "32-true", "deterministic": True, "threads": 1},
        "budget": {
            **{"name": "full", "max_epochs": 3, "max_steps": None, "max_passes": None, "train_examples": None},
            **{"eval_examples": None, "overfit_batches": None, "validate_every": 1.0, "test": True},
        },
        "logger": {},
        "callbacks": {},
        "regularizer": {},
        "augment": {},
        "seed": seed,
        "name": "made_up",
    }


def _example(draw: random.Random, task: str, name: str, group: str | None) -> dict[str, Any]:
    words = [draw.choice(WORDS) for _ in range(draw.randint(4, 9))]
    if task != "ner":
        return {"id": name, "input": " ".join(words), "gold": draw.choice(LABELS), "group": group}
    tags = ["O"] * len(words)
    for place in range(0, len(words) - 1, 3):
        if draw.random() < 0.7:
            kind = draw.choice(TYPES)
            tags[place : place + 2] = [f"B-{kind}", draw.choice([f"I-{kind}", "O"])]
    return {"id": name, "input": words, "gold": tags, "group": group}


def _answers(sweep: Sweep, run: PlannedRun, split: str) -> list[dict[str, Any]]:
    """Return the gold answers of a split with mistakes, in the form of the task's predictions."""
    draw = random.Random(f"{run.method} {run.seed} {run.config['optimizer']['lr']} {split}")
    labels = bio_labels(TYPES) if sweep.task == "ner" else LABELS
    answers = []
    for example in sweep.gold[split]:
        of_words = [_guess(draw, gold, labels, run.error_rate) for gold in _listed(example["gold"])]
        answer = {key: example[key] for key in ("id", "input", "gold")}
        if sweep.task == "ner":
            predicted = [label for label, _ in of_words]
            answer |= {"predicted": predicted, "probability": [of_all[label] for label, of_all in of_words]}
            for key, tags in (("gold", example["gold"]), ("predicted", predicted)):
                answer[f"{key}_entities"] = [
                    {"type": one.type, "start": one.start, "end": one.end} for one in entities(tags)
                ]
            answer["probabilities"] = [of_all for _, of_all in of_words]
        else:
            ((label, of_all),) = of_words
            answer |= {"predicted": label, "probability": of_all[label], "probabilities": of_all}
        answers.append(answer | {"group": example["group"]})
    return answers


def _guess(draw: random.Random, gold: str, labels: Sequence[str], error_rate: float) -> tuple[str, dict[str, float]]:
    """Return a label, and the probabilities of all labels, of which it has most."""
    right = draw.random() >= error_rate
    label = gold if right else draw.choice([other for other in labels if other != gold])
    sure = draw.uniform(0.6, 0.99) if right else draw.uniform(0.4, 0.8)
    return label, {other: sure if other == label else (1 - sure) / (len(labels) - 1) for other in labels}


def _loss(answers: Sequence[dict[str, Any]]) -> float:
    wrong = [1 - probability for answer in answers for probability in _listed(answer["probability"])]
    return sum(wrong) / len(wrong)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _time(begun: datetime, minutes: float) -> str:
    return (begun + timedelta(minutes=minutes)).isoformat(timespec="milliseconds")
