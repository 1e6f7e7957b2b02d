"""Hostile run folders: a good run's copy in which something is not what it was, used in every way.

What is done to it says what must come of it: of `CONTRADICTIONS` `reproduce --check-only` has to tell, and whatever was
done, predictions and a training that goes on come out as they were, or not at all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hostile_configs import _payload
from hostile_models import header, tensors, types, value_in_json
from jail import Ended, Jail
from safetensors.numpy import load_file, save_file
from tiny import SENTENCES

TEXTS = [text.format("ada", "paris", "rome") for text in SENTENCES]
FILES = (
    *("record.json", "config.yaml", "packages.txt", "log.txt", "metrics.csv", "trail.jsonl", "predictions/test.jsonl"),
    *("predictions/validation.jsonl", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"),
    *("adapter/labels.json", "checkpoints/best.safetensors", "checkpoints/step-4.safetensors"),
    *("checkpoints/step-4.safetensors.sha256", "checkpoints/step-2.safetensors", ".lock"),
)
FOLDERS = ("predictions", "adapter", "checkpoints", "tables", "tables/test", "reproduction", "notes", "tracking")
ODD: list[Any] = [
    None,
    -1,
    0,
    2**70,
    1e999,
    "x",
    "fast",
    "../x",
    [],
    {},
    ["x"],
    True,
    "\ud800",
    "\0",
    "<script>",
    1.5,
    [[]],
]


def case(draw: random.Random, jail: Jail) -> str:
    """Try one; return what it is."""
    run = Path(shutil.copytree(jail.base / "run0", jail.here / "runs" / "x" / "run", symlinks=True))
    unfinished = draw.random() < 0.25
    if unfinished:
        _edit_record(run, lambda record: record.update(status="interrupted", ended_at=None))
        what = []
    else:
        what = ["finished"]
    contradicts = not unfinished and draw.random() < 0.4
    change = draw.choice(CONTRADICTIONS if contradicts else OTHERS)
    (jail.here / "evil.py").write_text(
        f"open({str(jail.canary / 'evil')!r}, 'w')\nclass X:\n    def __init__(self, **_): pass\n"
    )
    what.append(f"{change.__name__} {change(draw, run, jail) or ''}")
    name = str(run)
    ended: list[Ended] = []
    if contradicts:
        told = jail.peftlab("reproduce", "--check-only", name)
        if told.done and ("identical" in told.said or "equivalent" in told.said):
            jail.fault("tampered record accepted", f"{what[-1]}: {told.said[:200]}")
    if unfinished:
        went_on = jail.peftlab("resume", name)
        if went_on.done and not _same(
            run / "predictions" / "test.jsonl", jail.base / "run0" / "predictions" / "test.jsonl"
        ):
            jail.fault("results changed under one identity", f"resume: {what[-1]}")
    uses = [
        lambda: jail.peftlab("predict", "--json", name, *TEXTS),
        lambda: jail.peftlab("evaluate", name),
        lambda: jail.peftlab("export", name, "out/exported"),
        lambda: jail.peftlab("resume", name),
        lambda: jail.peftlab("reproduce", "--check-only", name),
        lambda: jail.peftlab("compare", name, str(jail.base / "run1")),
        lambda: jail.peftlab("runs", "runs"),
        lambda: jail.train(*_same_again(jail), "run_dir=runs/x/run"),
    ]
    ended += [use() for use in draw.sample(uses, draw.choice([1, 2, 2]))]
    for one in ended:
        _check_answers(one, jail, what[-1])
    return ", ".join(what)


def _same_again(jail: Jail) -> list[str]:
    record = json.loads((jail.base / "run0" / "record.json").read_text())
    return [one for one in record["overrides"] if not one.startswith("run_dir")]


def _check_answers(ended: Ended, jail: Jail, what: str) -> None:
    """Check that a prediction is that of the run's own model, where there is one."""
    if not ended.what.startswith("peftlab predict") or not ended.done:
        return
    expected = (jail.base / "answers.jsonl").read_text().splitlines()
    lines = [line for line in ended.said.splitlines() if line.startswith("{")]
    if lines != expected:
        jail.fault("results changed under one identity", f"predict: {what}: {lines[:1]} for {expected[:1]}")


def _same(path: Path, other: Path) -> bool:
    return path.is_file() and path.read_bytes() == other.read_bytes()


def _edit_record(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((run / "record.json").read_text())
    change(record)
    (run / "record.json").write_text(json.dumps(record, indent=2))


def _edit_config(run: Path, key: str, value: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    *parents, leaf = key.split(".")
    node = config
    for parent in parents:
        node = node.setdefault(parent, {})
    node[leaf] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


# Contradictions: the folder tells against the record -----------------------------------------------------------------


def score(draw: random.Random, run: Path, jail: Jail) -> str:
    """Better a score, and maybe take away what it follows from."""
    record = json.loads((run / "record.json").read_text())
    one = draw.choice([score for score in record["metrics"] if score["name"] != "loss"])
    one["value"] = draw.choice([one["value"] + 0.01, 0.99, 1.0, 1 - one["value"]])
    (run / "record.json").write_text(json.dumps(record))
    way = draw.choice(["", "file", "folder", "listed"])
    if way in ("file", "listed"):
        (run / "predictions" / f"{one['split']}.jsonl").unlink()
    if way == "folder":
        shutil.rmtree(run / "predictions")
    if way == "listed":
        _edit_record(
            run, lambda record: record.update(files=[f for f in record["files"] if "predictions" not in f["path"]])
        )
    return f"{one['split']} {one['name']} {way}"


def scores(draw: random.Random, run: Path, jail: Jail) -> str:
    """Add scores, or take them away."""
    record = json.loads((run / "record.json").read_text())
    way = draw.choice(["none", "mapping", "less", "more", "twice", "split"])
    if way == "none":
        record["metrics"] = []
    elif way == "mapping":
        record["metrics"] = {}
    elif way == "less":
        del record["metrics"][draw.randrange(len(record["metrics"]))]
    elif way == "more":
        record["metrics"].append(record["metrics"][0] | {"name": "accuracy", "value": 0.999})
    elif way == "twice":
        record["metrics"].append(record["metrics"][-1] | {"value": 0.999})
    else:
        record["metrics"].append(record["metrics"][0] | {"split": "holdout", "value": 0.999})
    (run / "record.json").write_text(json.dumps(record))
    return way


def examples(draw: random.Random, run: Path, jail: Jail) -> str:
    """Invent predictions, or golds."""
    path = run / "predictions" / f"{draw.choice(['validation', 'test'])}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    way = draw.choice(["gold", "predicted", "input", "less", "more", "id", "order"])
    one = draw.choice([row for row in rows if any(tag != "O" for tag in row["gold"])])
    if way == "gold":
        one["gold"] = ["O"] * len(one["gold"])
    elif way == "predicted":
        one["predicted"] = ["B-LOC"] * len(one["gold"])
    elif way == "input":
        one["input"] = ["other"] * len(one["input"])
    elif way == "less":
        rows.remove(one)
    elif way == "more":
        rows += [one | {"id": f"test:{1000 + n}", "predicted": one["gold"]} for n in range(3)]
    elif way == "id":
        one["id"] = "test:1000"
    else:
        rows = rows[::-1]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if draw.random() < 0.5 and way != "order":  # and put its digest right
        _seal(run, path)
    return way


def _seal(run: Path, path: Path) -> None:
    import hashlib

    def change(record: dict[str, Any]) -> None:
        for file in record["files"]:
            if file["path"] == str(path.relative_to(run)):
                content = path.read_bytes()
                file |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    _edit_record(run, change)


def weights(draw: random.Random, run: Path, jail: Jail) -> str:
    """Put another adapter in the place of the run's."""
    path = run / "adapter" / "adapter_model.safetensors"
    way = draw.choice(["other", "zeros", "bit", "gone", "unlisted"])
    if way in ("other", "unlisted"):
        shutil.copy(jail.base / "run1" / "adapter" / path.name, path)
    elif way == "zeros":
        save_file({name: np.zeros_like(tensor) for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    elif way == "bit":
        content = bytearray(path.read_bytes())
        content[-draw.randrange(1, 1000)] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    if way == "unlisted":
        _edit_record(run, lambda record: record.update(files=[]))
    return way


def claim(draw: random.Random, run: Path, jail: Jail) -> str:
    """Claim in the record what data, model and configuration tell otherwise."""
    path, value = draw.choice(
        [
            ("method.trainable_parameters", 100),
            ("method.total_parameters", 10**9),
            ("method.name", "head"),
            ("data.splits.test.rows", 10**6),
            ("data.splits.train.rows", 1),
            ("data.train_test_overlap", 0),
            ("data.labels", ["O", "B-X"]),
            ("data.name", "conll2003"),
            ("selection.value", 0.99),
            ("selection.metric", "loss"),
            ("selection.mode", "min"),
            ("identity.sha256", "0" * 64),
            ("identity.weights_sha256", "0" * 64),
            ("identity.data_sha256.test", "0" * 64),
            ("identity.config_sha256", "0" * 64),
            ("run_id", "000000000000"),
            ("environment.seeds.global", 7),
            ("environment.precision", "bf16-mixed"),
            ("environment.packages_sha256", "0" * 64),
            ("files", []),
        ]
    )
    same = False

    def change(record: dict[str, Any]) -> None:
        nonlocal same
        *parents, leaf = path.split(".")
        node = record
        for parent in parents:
            node = node[parent]
        same, node[leaf] = node.get(leaf) == value, value

    _edit_record(run, change)
    if same:
        return claim(draw, run, jail)
    return path


def setting(draw: random.Random, run: Path, jail: Jail) -> str:
    """Set a key of the configuration that decides results to something else."""
    key, value = draw.choice(
        [
            ("data.labels", ["PER", "LOC"]),
            ("peft.lora_alpha", 64),
            ("peft.r", 4),
            ("seed", 7),
            ("optimizer.lr", 1e-9),
            ("data.max_tokens", 5),
            ("task.repair", "discard"),
            ("data.splits.test", "train.txt"),
            ("model.source.path", "MODEL"),
            ("budget.max_steps", 400),
            ("trainer.precision", "bf16-mixed"),
        ]
    )
    if value == "MODEL":
        value = str(shutil.copytree(jail.base / "model", jail.here / "model"))
        tensors_of = load_file(Path(value) / "model.safetensors")
        save_file(
            {name: tensor * 2 for name, tensor in tensors_of.items()},
            Path(value) / "model.safetensors",
            {"format": "pt"},
        )
    _edit_config(run, key, value)
    return key


def never_ended(draw: random.Random, run: Path, jail: Jail) -> str:
    """Call a run completed that was interrupted."""
    _edit_record(run, lambda record: record.update(metrics=[], files=[], ended_at=None))
    shutil.rmtree(run / "adapter")
    shutil.rmtree(run / "predictions")
    return ""


# Others: damage, links, code -----------------------------------------------------------------------------------------


def json_of_record(draw: random.Random, run: Path, jail: Jail) -> str:
    """Put another JSON, or none, in the place of the record, or odd values into it."""
    path = run / "record.json"
    known = json.loads(path.read_text())
    if draw.random() < 0.3:
        whole: list[bytes] = [
            b"",
            b"[]",
            b"null",
            b"{}",
            b'{"schema_version": 1}',
            b"[" * 10**5,
            b"\0" * 4096,
            b"\xff\xfe{",
        ]
        whole += [
            b'{"a":' * 10**5,
            json.dumps(known).encode()[:-50],
            b'"x"',
            b'{"schema_version": 99}',
            b"{} {}",
            b"NaN",
        ]
        path.write_bytes(draw.choice(whole))
        return "whole"
    changed = []
    for _ in range(draw.choice([1, 1, 2])):
        node: Any = known
        trail = []
        while isinstance(node, (dict, list)) and node:
            key: Any = draw.choice(sorted(node)) if isinstance(node, dict) else draw.randrange(len(node))
            trail.append(key)
            if draw.random() < 0.4 or not isinstance(node[key], (dict, list)) or not node[key]:
                break
            node = node[key]
        if isinstance(node, dict) and draw.random() < 0.3:
            node.pop(trail[-1])
        else:
            node[trail[-1]] = draw.choice(ODD)
        changed.append(".".join(map(str, trail)))
    path.write_text(json.dumps(known))
    return " ".join(changed)


def yaml_of_config(draw: random.Random, run: Path, jail: Jail) -> str:
    """Put other YAML in the place of the configuration, or odd values into it."""
    path = run / "config.yaml"
    if draw.random() < 0.4:
        bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
        text = draw.choice(
            [
                *(
                    "",
                    "[]",
                    "null",
                    "x",
                    "\0",
                    "a: b: c",
                    "x: " + "[" * 5000,
                    bomb,
                    bomb + path.read_text(),
                    "a: &a [*a]",
                ),
                *(
                    path.read_text() + "own: !!python/object/apply:os.mkdir ['x']\n",
                    path.read_text() + "seed: 1\n",
                    "{}",
                ),
                *(
                    path.read_text() + "---\nx: 1\n",
                    path.read_text() + "own: !!python/name:os.system\n",
                    "\ufeff{}",
                    "trainer: null",
                ),
            ]
        )
        path.write_text(text)
        return f"whole {text[:30]!r}"
    config = yaml.safe_load(path.read_text())
    sections = [
        "trainer",
        "data",
        "data.source",
        "model",
        "model.source",
        "task",
        "peft",
        "optimizer",
        "budget",
        "scheduler",
    ]
    section = draw.choice(sections)
    node = config
    for part in section.split("."):
        node = node[part]
    key = draw.choice([*node, "no_such_key"])
    value = draw.choice([*ODD, "${oc.env:HOME}", {"_target_": "evil.X"}])
    node[key] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return f"{section}.{key} = {value!r}"


def code(draw: random.Random, run: Path, jail: Jail) -> str:
    """Name a class in the configuration, with or without a word that it may be named."""
    package = draw.choice(["evil", "numpy", "os", "sympy", "torch", "builtins", "peftlab", "runpy", "evil_package"])
    if draw.random() < 0.7:
        _edit_config(run, "allow", draw.choice([[package], [package], package, {"a": package}, [f"{package}.x"]]))
    place = draw.choice(
        ["callbacks.x", "logger.x", "data.format", "data.source", "model.source", "optimizer.algorithm", "task"]
    )
    targets = [
        f"{package}.X",
        "evil.X",
        "numpy.f2py.__main__.X",
        "sympy.sympify",
        "os.system",
        "antigravity.X",
        "this.X",
    ]
    node = draw.choice([{"_target_": draw.choice(targets)}, _payload(draw, jail)])
    _edit_config(run, place, node)
    if draw.random() < 0.3:
        _edit_record(
            run, lambda record: record.update(overrides=[f"+allow=[{package}]", f"+{place}={json.dumps(node)}"])
        )
    return f"{place}: {json.dumps(node)[:120]}"


def writes(draw: random.Random, run: Path, jail: Jail) -> str:
    """Give callbacks, loggers and folders paths elsewhere."""
    to = draw.choice([str(jail.elsewhere), "../../../../elsewhere", f"{jail.elsewhere}/metrics.csv", "/"])
    csv = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": to, "name": to, "version": ""}
    ours = {"_target_": "peftlab.training.predictions.Predictions", "folder": to}
    key, value = draw.choice(
        [
            ("logger.x", csv),
            ("logger.x", csv | {"save_dir": ".", "name": "../../elsewhere"}),
            ("logger.csv", {"_target_": "peftlab.loggers.metrics_csv.MetricsCsv", "save_dir": to}),
            ("callbacks.x", ours),
            ("callbacks.x", {"_target_": "lightning.pytorch.callbacks.DeviceStatsMonitor", "x": to}),
            ("logger.x", {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "save_dir": to}),
            ("run_dir", to),
            ("sweep_dir", to),
            ("name", "../../../elsewhere"),
        ]
    )
    _edit_config(run, key, value)
    if draw.random() < 0.3:
        _edit_record(
            run, lambda record: record["files"].append({"path": f"../../../{to}", "bytes": 1, "sha256": "0" * 64})
        )
    return f"{key}: {value}"


def link(draw: random.Random, run: Path, jail: Jail) -> str:
    """Make a file or a folder of the run a link that leads out."""
    name = draw.choice([*FILES, *FOLDERS, "evil.txt", "report.html"])
    path = run / name
    path.parent.mkdir(exist_ok=True, parents=True)
    keeps = draw.random() < 0.6
    target = jail.elsewhere / f"target-{Path(name).name}"
    if path.is_dir():
        shutil.copytree(path, target)
        shutil.rmtree(path)
    elif path.exists():
        shutil.copy(path, target)
        path.unlink()
    elif keeps and name in FOLDERS:
        target.mkdir()
    elif keeps:
        target.write_text("mine")
    to = (
        target
        if keeps
        else draw.choice([Path("/dev/zero"), Path("/dev/null"), Path("nowhere"), Path(path.name), jail.elsewhere])
    )
    path.symlink_to(to)
    return f"{name} -> {to.name}"


def no_file(draw: random.Random, run: Path, jail: Jail) -> str:
    """Put a pipe, a folder or nothing in the place of a file, or a file in that of a folder."""
    name = draw.choice([*FILES, *FOLDERS])
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
        if draw.random() < 0.7:
            path.write_text("x")
        return f"{name} is no folder"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.unlink(missing_ok=True)
    way = draw.choice(["pipe", "folder", "gone"])
    if way == "pipe":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    return f"{name}: {way}"


def damage(draw: random.Random, run: Path, jail: Jail) -> str:
    """Damage the bytes of a file."""
    name = draw.choice([name for name in FILES if (run / name).is_file()])
    path = run / name
    content = path.read_bytes()
    at = draw.randrange(len(content) + 1)
    noise = draw.choice(
        [b"\0" * 4096, b"\xff\xfe", b"[" * 10**5, draw.randbytes(100), b"\n" * 10**5, b'{"a": 1}\n', b"\0"]
    )
    path.write_bytes(draw.choice([b"", content[:at], content[:at] + noise, noise, content[:at] + noise + content[at:]]))
    return name


def tree(draw: random.Random, run: Path, jail: Jail) -> str:
    """Spoil the header or the tree of a checkpoint or the adapter, and maybe put its digest right."""
    where = draw.choice(["adapter", "checkpoints"])
    spoil = draw.choice([header, types, tensors, *([value_in_json] if where == "adapter" else [])])
    way = spoil(draw, run / where, jail)
    if where == "checkpoints" and draw.random() < 0.6:
        import hashlib

        for digest in (run / where).glob("*.sha256"):
            digest.write_text(hashlib.sha256(digest.with_suffix("").read_bytes()).hexdigest())
    return f"{where}: {spoil.__name__} {way}"


CONTRADICTIONS: list[Callable[[random.Random, Path, Jail], str]] = [
    score,
    scores,
    examples,
    weights,
    claim,
    claim,
    setting,
    never_ended,
]
OTHERS: list[Callable[[random.Random, Path, Jail], str]] = [
    *(json_of_record, json_of_record, yaml_of_config, code, code, writes, link, link, no_file, damage, damage, tree),
    *(weights, setting),
]
