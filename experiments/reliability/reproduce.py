"""Does `peftlab reproduce` come to the right verdict, and name the cause? 60 cases, 40 of them tampered with.

python experiments/reliability/reproduce.py [HOW_MANY]

A few runs are made once. Each case takes a copy of one, changes something in the folder, its data or its model, and
asks for a verdict. A better forger also puts right every digest that his change has made wrong: `seal`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from tiny import make_data, make_model, overrides

MADE = {
    "lora": [],
    "seed1": ["seed=1", "model.dropout=0"],
    "seed2": ["seed=2", "model.dropout=0"],
    "seed3": ["seed=3", "model.dropout=0"],
    "full": ["peft=full", "optimizer.lr=1e-3"],
    "head": ["peft=head"],
    "workers": ["data.workers=1"],
    "accumulated": ["trainer.accumulate=2", "model.dropout=0"],
    "bf16": ["trainer.precision=bf16-mixed"],
    "overfit": ["budget=overfit", "budget.max_steps=12"],
    "sgd": ["optimizer=sgd", "optimizer.lr=0.1", "scheduler=cosine"],
}
"""What the runs are made with, by name."""


class Folder(NamedTuple):
    """A run that a case may change."""

    path: Path
    others: Path
    """Where the other runs are."""
    draw: random.Random

    def record(self, **sections: Any) -> None:
        """Set entries of the record."""
        self.write("record.json", _merged(json.loads((self.path / "record.json").read_text()), sections))

    def score(self, split: str, name: str, value: float | Callable[[float], float]) -> None:
        """Set a score of the record."""
        record = json.loads((self.path / "record.json").read_text())
        for score in record["metrics"]:
            if (score["split"], score["name"]) == (split, name):
                score["value"] = value(score["value"]) if callable(value) else value
        self.write("record.json", record)

    def config(self, key: str, value: Any) -> None:
        """Set a key of the configuration."""
        file = self.path / "config.yaml"
        config = yaml.safe_load(file.read_text())
        *parents, leaf = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[leaf] = value
        file.write_text(yaml.safe_dump(config, sort_keys=False))

    def write(self, name: str, value: Any) -> None:
        """Write JSON."""
        (self.path / name).write_text(json.dumps(value, indent=2))

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        """Change the text of a file."""
        before = (self.path / name).read_text()
        after = change(before)
        assert after != before, f"{name}: the case changes nothing"
        (self.path / name).write_text(after)

    def seal(self) -> None:
        """Put right every digest in the record."""
        from peftlab.runs.identity import identity, run_id_of
        from peftlab.storage.digests import file_sha256

        record = json.loads((self.path / "record.json").read_text())
        for file in record["files"]:
            path = self.path / file["path"]
            file |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        known, config = record["identity"], yaml.safe_load((self.path / "config.yaml").read_text())
        record["identity"] = identity(config, known["data_sha256"], known["weights_sha256"])
        record["run_id"] = run_id_of(record["identity"])
        record["environment"]["seeds"] = {"global": config["seed"]}
        record["environment"]["packages_sha256"] = file_sha256(self.path / "packages.txt")
        self.write("record.json", record)


@dataclass
class Case:
    """What is done to which run, and what must be found."""

    name: str
    of: str
    verdict: str
    cause: str = ""
    """Begins the ``kind: what`` of one of the causes; empty: there must be none."""
    change: Callable[[Folder], object] = lambda _: None
    step: int | None = None
    """The first at which the trails must part."""
    options: dict[str, Any] = field(default_factory=dict)
    tampered: bool = True


def honest() -> Iterator[Case]:
    """Yield cases that nobody has tampered with."""
    for name in MADE:
        yield Case(f"repeated, {name}", name, "identical", tampered=False)
    yield Case("checked", "lora", "identical", options={"check_only": True}, tampered=False)
    yield Case("from another folder", "full", "identical", change=_move, tampered=False)

    def elsewhere(
        name: str, cause: str, of: str, verdict: str, change: Callable[[Folder], object], **options: Any
    ) -> Case:
        def made_elsewhere(folder: Folder) -> None:
            change(folder)
            folder.seal()

        return Case(name, of, verdict, cause, made_elsewhere, options=options, tampered=False)

    yield elsewhere("other packages", "packages: torch", "lora", "identical", _torch)
    yield elsewhere("other commit", "code: commit", "head", "identical", _commit)
    # the same batch in two parts rounds otherwise, as another machine does
    yield elsewhere("other CPU", "environment: cpu", "accumulated", "equivalent", lambda f: (_undivided(f), _cpu(f)))
    yield elsewhere("other torch", "packages: torch", "accumulated", "equivalent", lambda f: (_undivided(f), _torch(f)))
    yield elsewhere(
        "other code, spread given",
        "code: commit",
        "accumulated",
        "equivalent",
        lambda f: (_undivided(f), _commit(f)),
        spread=0.1,
    )
    yield elsewhere(
        "other CPU, seeds beside",
        "environment: cpu",
        "accumulated",
        "equivalent",
        lambda f: (_undivided(f), _cpu(f), _seeds(f)),
    )
    yield elsewhere("other CPU, checked", "environment: cpu", "lora", "equivalent", _cpu, check_only=True)


def tampered() -> Iterator[Case]:
    """Yield cases that somebody has tampered with."""
    # scores
    better = lambda value: 0.5 * (1 + value)  # noqa: E731
    for split in ("validation", "test"):
        edit = lambda f, split=split: f.score(split, "entity_f1", better)  # noqa: E731
        yield Case(f"{split} score", "lora", "different", f"edited: record.json: {split} entity_f1", edit)
    yield Case(
        "score of a type",
        "full",
        "different",
        "edited: record.json: test entity_f1/PER",
        lambda f: f.score("test", "entity_f1/PER", 0.99),
    )
    yield Case(
        "loss", "head", "different", "result: test loss", lambda f: f.score("test", "loss", lambda loss: loss / 2)
    )
    yield Case(
        "selected score",
        "sgd",
        "different",
        "edited: record.json: selection.value",
        lambda f: f.record(selection={"value": 0.99}),
    )
    yield Case(
        "a score, checked only",
        "lora",
        "different",
        "edited: record.json: test",
        lambda f: f.score("test", "entity_f1", 0.99),
        options={"check_only": True},
    )
    yield Case(
        "a score and another commit",
        "lora",
        "different",
        "edited: record.json: test",
        lambda f: (f.score("test", "entity_f1", lambda v: v + 0.005), _commit(f)),
    )
    # what the run has left
    yield Case("predictions", "lora", "different", "edited: predictions/test.jsonl", lambda f: _predict_gold(f, "test"))
    yield Case(
        "validation predictions",
        "full",
        "different",
        "edited: predictions/validation.jsonl",
        lambda f: _predict_gold(f, "validation"),
    )
    yield Case(
        "predictions and scores, sealed",
        "lora",
        "different",
        "result: predictions/test.jsonl",
        lambda f: (_predict_gold(f, "test"), _rescore(f), f.seal()),
    )
    yield Case(
        "a probability, sealed",
        "head",
        "different",
        "result: predictions/test.jsonl",
        lambda f: (
            f.edit("predictions/test.jsonl", lambda t: t.replace('"probability": [0.', '"probability": [0.9', 1)),
            f.seal(),
        ),
    )
    yield Case(
        "adapter",
        "lora",
        "different",
        "edited: adapter/adapter_model.safetensors",
        lambda f: _take(f, "seed1", "adapter/adapter_model.safetensors"),
    )
    yield Case(
        "adapter, sealed",
        "lora",
        "different",
        "result: adapter/adapter_model.safetensors",
        lambda f: (_take(f, "seed2", "adapter/adapter_model.safetensors"), f.seal()),
    )
    yield Case(
        "a bit of the adapter, sealed",
        "full",
        "different",
        "result: adapter/adapter_model.safetensors",
        lambda f: (_flip(f), f.seal()),
    )
    yield Case(
        "trail",
        "lora",
        "different",
        "edited: trail.jsonl",
        lambda f: f.edit("trail.jsonl", lambda t: t.replace('"step": 8,', '"step": 9,')),
    )
    yield Case(
        "a loss of the trail, sealed",
        "lora",
        "different",
        "result: trail.jsonl",
        lambda f: (_loss(f, 8), f.seal()),
        step=8,
    )
    yield Case(
        "trail of another seed, sealed",
        "lora",
        "different",
        "result: trail.jsonl",
        lambda f: (_take(f, "seed1", "trail.jsonl"), f.seal()),
        step=0,
    )
    yield Case(
        "trail without its end, sealed",
        "head",
        "different",
        "result: trail.jsonl",
        lambda f: (f.edit("trail.jsonl", lambda t: t.rstrip().rpartition("\n")[0] + "\n"), f.seal()),
    )
    # data and weights
    for split, file in {"train": "train", "validation": "dev", "test": "test"}.items():
        yield Case(
            f"a byte of {split}",
            "lora",
            "not comparable",
            f"data: {split}",
            lambda f, file=file: _byte(f, Path("data", f"{file}.txt")),
        )
    yield Case(
        "data digest",
        "lora",
        "not comparable",
        "data: train",
        lambda f: (f.record(identity={"data_sha256": {"train": "0" * 64}}), f.seal()),
    )
    yield Case(
        "a byte of the weights",
        "head",
        "not comparable",
        "weights: ",
        lambda f: _byte(f, Path("model/model.safetensors")),
    )
    yield Case("other weights", "lora", "not comparable", "weights: ", lambda f: make_model(Path("model"), seed=9))
    # configuration
    for key, value in {"seed": 5, "optimizer.lr": 1e-3, "model.dropout": 0.0, "budget.max_steps": 12}.items():
        yield Case(
            f"config.yaml {key}",
            "lora",
            "not comparable",
            f"config: {key}",
            lambda f, key=key, value=value: f.config(key, value),
        )
    yield Case(
        "config.yaml accumulate",
        "lora",
        "different",
        "edited: config.yaml: trainer.accumulate",
        lambda f: f.config("trainer.accumulate", 2),
    )
    yield Case(
        "another seed, sealed",
        "lora",
        "different",
        "result: trail.jsonl",
        lambda f: (f.config("seed", 7), f.seal()),
        step=0,
    )
    yield Case(
        "another rate, sealed",
        "full",
        "different",
        "result: trail.jsonl",
        lambda f: (f.config("optimizer.lr", 2e-3), f.seal()),
        step=2,  # the first is taken at a rate of 0
    )
    yield Case(
        "another dropout, sealed",
        "lora",
        "different",
        "result: trail.jsonl",
        lambda f: (f.config("model.dropout", 0.2), f.seal()),
        step=1,
    )
    yield Case(
        "no config.yaml", "lora", "not comparable", "config: config.yaml", lambda f: (f.path / "config.yaml").unlink()
    )
    # the record
    yield Case(
        "record of another seed", "lora", "not comparable", "config: seed", lambda f: _take(f, "seed1", "record.json")
    )
    yield Case("status", "lora", "not comparable", "status: ", lambda f: f.record(status="interrupted"))
    yield Case(
        "threads in the record",
        "lora",
        "different",
        "edited: record.json: environment.threads",
        lambda f: f.record(environment={"threads": 2}),
    )
    yield Case(
        "seed in the record",
        "lora",
        "different",
        "edited: record.json: environment.seeds",
        lambda f: f.record(environment={"seeds": {"global": 4}}),
    )
    yield Case(
        "parameters",
        "full",
        "different",
        "result: record.json: method.trainable_parameters",
        lambda f: f.record(method={"trainable_parameters": 1000}),
    )
    # surroundings that cannot excuse it
    yield Case(
        "packages.txt",
        "lora",
        "different",
        "edited: packages.txt",
        lambda f: f.edit("packages.txt", lambda t: t.replace("torch==", "torch==1")),
    )
    yield Case(
        "a bad score on another CPU, sealed",
        "accumulated",
        "different",
        "environment: cpu",
        lambda f: (_undivided(f), _cpu(f), _predict_gold(f, "test"), _rescore(f), f.seal()),
    )


def _merged(record: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    for key, value in sections.items():
        record[key] = _merged(record[key], value) if isinstance(value, dict) else value
    return record


def _torch(folder: Folder) -> None:
    folder.edit("packages.txt", lambda text: text.replace("\ntorch==", "\ntorch==1."))


def _commit(folder: Folder) -> None:
    folder.record(code={"commit": "0" * 40})


def _cpu(folder: Folder) -> None:
    folder.record(environment={"cpu": "Another CPU", "isa": "NEON"})


def _undivided(folder: Folder) -> None:
    folder.config("trainer.accumulate", 1)


def _move(folder: Folder) -> None:
    shutil.move("runs", "elsewhere")


def _seeds(folder: Folder) -> None:
    """Put runs of other seeds beside it."""
    for name in ("seed1", "seed2", "seed3"):
        shutil.copytree(folder.others / name, folder.path.with_name(name))


def _take(folder: Folder, other: str, name: str) -> None:
    shutil.copy(folder.others / other / name, folder.path / name)


def _predict_gold(folder: Folder, split: str) -> None:
    """Let some predictions be right that are wrong."""
    file = folder.path / "predictions" / f"{split}.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()]
    wrong = [one for one in found if one["predicted"] != one["gold"]]
    for one in folder.draw.sample(wrong, max(1, len(wrong) // 2)):
        one["predicted"], one["predicted_entities"] = one["gold"], one["gold_entities"]
    file.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found))


def _rescore(folder: Folder) -> None:
    """Let the record have the scores of the predictions."""
    from peftlab.config import validate

    spec = validate(yaml.safe_load((folder.path / "config.yaml").read_text()))
    spec.task.learn_labels({"train": []}, spec.data.labels)
    for split in ("validation", "test"):
        lines = (folder.path / "predictions" / f"{split}.jsonl").read_text().splitlines()
        scorer = spec.task.scorer
        for name, value in scorer.details(scorer.total(map(json.loads, lines))).items():
            folder.score(split, name, value)


def _flip(folder: Folder) -> None:
    """Flip a low bit of one of the last numbers in the adapter."""
    file = folder.path / "adapter" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4 * folder.draw.randint(1, 8)] ^= 1  # the lowest byte of a little-endian float
    file.write_bytes(content)


def _byte(folder: Folder, file: Path) -> None:
    """Change one byte at a random place to another letter or bit."""
    content = bytearray(file.read_bytes())
    if file.suffix == ".txt":
        places = [n for n, byte in enumerate(content) if chr(byte).islower()]
        place = folder.draw.choice(places)
        content[place] = ord("x") if content[place] != ord("x") else ord("y")
    else:
        content[-folder.draw.randint(1, 1000)] ^= 1
    file.write_bytes(content)


def _loss(folder: Folder, step: int) -> None:
    lines = (folder.path / "trail.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        point = json.loads(line)
        if point.get("step") == step:
            lines[number] = json.dumps(point | {"loss": repr(float(point["loss"]) * (1 + 1e-7))})
    folder.edit("trail.jsonl", lambda _: "\n".join(lines) + "\n")


def prepare(folder: Path, wanted: set[str]) -> None:
    """Make model, data and the wanted runs in `folder`."""
    from peftlab.python_api import run

    make_model(folder / "model")
    make_data(folder / "data")
    with contextlib.chdir(folder):
        for name in sorted(wanted):
            run(*overrides(Path("model"), Path("data"), *MADE[name]), f"run_dir=runs/trials/{name}")


def right(case: Case, place: Path, made: Path, seed: int) -> bool:
    """Return whether the verdict on a case is right; else say what it was.

    Args:
        case: what is done to a run, and what is to be said of it.
        place: in which the runs were made, and where their model and data have to be; it is made anew.
        made: a copy of it.
        seed: of what the case draws.
    """
    from peftlab.use.reproduce import reproduce

    shutil.rmtree(place)
    place.mkdir()
    with contextlib.chdir(place):
        for folder in ("model", "data"):
            shutil.copytree(made / folder, folder)
        path = Path("runs", "trials", case.of)
        shutil.copytree(made / path, path)
        case.change(Folder(path, made / "runs" / "trials", random.Random(seed)))
        verdict = reproduce(path if path.is_dir() else Path("elsewhere", "trials", case.of), **case.options)
    causes = [f"{cause.kind}: {cause.what}" for cause in verdict.causes]
    named = any(cause.startswith(case.cause) for cause in causes) if case.cause else not causes
    parted = case.step is None or (verdict.fork is not None and verdict.fork.step == case.step)
    found = verdict.verdict == case.verdict and named and parted
    if not found:
        print(f"WRONG: {case.name} should be {case.verdict} ({case.cause})\n{verdict.text()}\n", file=sys.stderr)
    return found


def main(how_many: int | None = None) -> int:
    """Judge so many of the cases, all by default; return how many verdicts were wrong."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cases = [*honest(), *tampered()]
    random.Random(0).shuffle(cases)  # so that a few are some of each
    cases = cases[:how_many]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        place, made = Path(name, "place"), Path(name, "made")
        os.environ["PEFTLAB_CACHE"] = str(Path(name, "cache"))
        needed = {case.of for case in cases} | {"seed1", "seed2", "seed3"}
        with contextlib.redirect_stdout(io.StringIO()):
            prepare(place, needed)
            shutil.copytree(place, made)
            wrong = sum(not right(case, place, made, seed) for seed, case in enumerate(cases))
    tampered_with = sum(case.tampered for case in cases)
    print(
        f"{len(cases) - wrong} of {len(cases)} verdicts right with their causes named, "
        f"{tampered_with} of the runs tampered with; {time.perf_counter() - began:.0f} s"
    )
    return wrong


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else None) > 0)
