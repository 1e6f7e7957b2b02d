"""Hostile configurations: something to call or to write, somewhere in the tree, brought in some way.

A payload is a mapping with what is to be called; every one leaves a file in the canary's folder, or writes where no run
may. It is wrapped (lists, aliases, interpolations), put at a place (every section, and all below ``hydra``), and
brought by an experiment, an option of a group, a link, or the command line.
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jail import Jail
from tiny import overrides

SECTIONS = ("model", "data", "task", "peft", "optimizer", "scheduler", "trainer", "budget", "sweep")
NODES = (
    *("model.source", "data.source", "data.format", "data.splits", "optimizer.algorithm", "task.selection"),
    *("callbacks.x", "logger.x", "sweep.space", "adapter", "allow", "name", "data.labels", "task.class_weights", "own"),
)
BELOW_HYDRA = (
    *("callbacks.x", "callbacks", "launcher", "launcher.x", "launcher.trials_at_once", "sweeper", "sweeper.x"),
    *("sweeper.params.x", "job_logging", "job_logging.handlers.x", "job_logging.formatters.x", "job_logging.loggers.x"),
    *("hydra_logging", "hydra_logging.handlers.x", "hydra_logging.filters.x", "job.config", "job.x", "runtime.x"),
    *("help", "hydra_help", "overrides.x", "sweep", "run", "env.x", "own", "job.env_copy", "verbose", "mode"),
)


def case(draw: random.Random, jail: Jail) -> str:
    """Try one; return what it is."""
    _evil(jail)
    make = draw.choices(
        [_instantiating, _writing, _below_hydra, _tagged, _named, _resolving, _malformed], [6, 4, 5, 3, 4, 3, 4]
    )[0]
    tree, plain = make(draw, jail)
    arguments, text = _brought(draw, jail, tree, plain)
    fixed = overrides(jail.base / "model", jail.base / "data", "budget.max_steps=2")
    fixed = [one for one in fixed if not one.startswith(("budget.max_steps=24", *(f"{key}=" for key in tree)))]
    fixed = [one for one in fixed if not (one.startswith(("callbacks=", "logger=")) and "/" in one)]
    how = draw.random()
    if how < 0.85:
        jail.train(*arguments, *fixed)
    else:
        jail.train("-m", "sweep.dry_run=true", *arguments, *fixed, "seed=1,2")
    return f"{make.__name__}: {' '.join(arguments)}: {text}"


def _evil(jail: Jail) -> None:
    """Put a module beside the user's work that leaves a file when it is imported."""
    source = f"from pathlib import Path\nPath({str(jail.canary / 'imported')!r}).touch()\n"
    source += "class Evil:\n    def __init__(self, **_):\n        pass\n"
    (jail.here / "evil.py").write_text(source)
    package = jail.here / "evil_package"
    package.mkdir()
    (package / "__init__.py").write_text(source)


# What is called ------------------------------------------------------------------------------------------------------


def _payload(draw: random.Random, jail: Jail) -> dict[str, Any]:
    """Return a mapping that, if it is instantiated, leaves a file in the canary's folder."""
    mark = str(jail.canary / f"ran{draw.randrange(10**6)}")
    code = f"__import__('pathlib').Path({mark!r}).touch()"
    touch = ["touch", mark]
    calls: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("builtins.eval", [code], {}),
        ("builtins.exec", [code], {}),
        ("builtins.open", [mark, "w"], {}),
        ("os.mkdir", [mark], {}),
        ("os.makedirs", [], {"name": mark}),
        ("os.system", [f"touch {mark}"], {}),
        ("posix.system", [f"touch {mark}"], {}),
        ("subprocess.run", [touch], {}),
        ("subprocess.Popen", [], {"args": touch}),
        ("subprocess.check_output", [touch], {}),
        ("shutil.copyfile", [str(jail.elsewhere / "notes.txt"), mark], {}),
        ("shutil.copytree", [str(jail.elsewhere), mark], {}),
        ("sympy.sympify", [code], {}),
        ("sympy.parsing.sympy_parser.parse_expr", [code], {}),
        ("numpy.savetxt", [mark, [1.0]], {}),
        ("numpy.save", [mark, [1]], {}),
        ("torch.save", [{}, mark], {}),
        ("logging.FileHandler", [mark], {}),
        ("logging.handlers.RotatingFileHandler", [], {"filename": mark}),
        ("pathlib.Path.write_text", [{"_target_": "pathlib.Path", "_args_": [mark]}, "x"], {}),
        ("importlib.import_module", ["evil"], {}),
        ("pydoc.locate", ["evil.Evil"], {}),
        ("hydra.utils.get_class", ["evil.Evil"], {}),
        ("hydra.utils.instantiate", [{"_target_": "evil.Evil"}], {}),
        ("runpy.run_module", ["evil"], {}),
        ("runpy.run_path", ["evil.py"], {}),
        ("evil.Evil", [], {}),
        ("evil_package.Evil", [], {}),
        ("torch.utils.cpp_extension.load", [], {"name": "x", "sources": [mark]}),
        ("functools.partial", [{"_target_": "os.mkdir", "_partial_": True}, mark], {}),
        ("peftlab.storage.atomic.write_text", [mark, "x"], {}),
        ("peftlab.specs.importlib.import_module", ["evil"], {}),
        ("peftlab.transfer.wheels.subprocess.run", [touch], {}),
        ("peftlab.callbacks.evil.Evil", [], {}),
        ("torch.optim.os.system", [f"touch {mark}"], {}),
        ("torch.optim.lr_scheduler.LambdaLR", [], {"lr_lambda": code}),
        ("lightning.pytorch.callbacks.LambdaCallback", [], {"setup": {"_target_": "evil.Evil"}}),
        ("lightning.pytorch.loggers.csv_logs.os.mkdir", [mark], {}),
        ("lightning.pytorch.Trainer", [], {"default_root_dir": mark}),
    ]
    target, positional, named = draw.choice(calls)
    node: dict[str, Any] = {draw.choice(["_target_"] * 6 + ["_target", "target", "class", "()"]): target}
    if positional:
        node["_args_"] = positional
    node |= named
    if draw.random() < 0.2:
        node["_partial_"] = draw.choice([True, False])
    if draw.random() < 0.15:
        node[draw.choice(["_recursive_", "_convert_", "_mode_"])] = draw.choice([True, "all", "none", False])
    return node


def _wrapped(draw: random.Random, node: Any) -> Any:
    """Put a node deeper: in lists and mappings, or beside a class that is ours."""
    for _ in range(draw.choice([0, 0, 0, 1, 2])):
        node = draw.choice(
            [[node], {"deep": node}, {"_target_": "peftlab.sources.FilesSource", "path": node}, [1, node]]
        )
    return node


def _at(place: str, node: Any) -> dict[str, Any]:
    for key in reversed(place.split(".")):
        node = {key: node}
    return node  # type: ignore[no-any-return]


def _instantiating(draw: random.Random, jail: Jail) -> tuple[dict[str, Any], bool]:
    place = draw.choice([*SECTIONS, *NODES, *NODES])
    if place in SECTIONS and draw.random() < 0.6:
        place += draw.choice([".x", ".name", ".path", ".source.path", ".seed", ".deep.er"])
    return _at(place, _wrapped(draw, _payload(draw, jail))), True


def _below_hydra(draw: random.Random, jail: Jail) -> tuple[dict[str, Any], bool]:
    if draw.random() < 0.35:
        to = draw.choice([str(jail.elsewhere / "x"), "../elsewhere/x", f"{jail.elsewhere}/${{now:%Y}}"])
        tree = draw.choice(
            [
                {"output_subdir": to},
                {"run": {"dir": to}},
                {"run": {"dir": to}, "output_subdir": "."},
                {"sweep": {"dir": to}},
                {"sweep": {"subdir": to}},
                {"job": {"chdir": True}, "run": {"dir": to}},
                {"job": {"env_set": {"PEFTLAB_CACHE": to, "PYTHONPATH": str(jail.here)}}},
                {"job": {"name": to}},
                {"job_logging": _logging(draw, to)},
                {"hydra_logging": _logging(draw, to)},
                {"searchpath": [draw.choice([f"file://{jail.elsewhere}", "pkg://evil_package", "structured://evil"])]},
                {"runtime": {"output_dir": to, "cwd": to}},
            ]
        )
        return {"hydra": tree}, True
    place = draw.choice(BELOW_HYDRA)
    node = _payload(draw, jail)
    if "logging" in place and draw.random() < 0.5:
        node = {draw.choice(["()", "class"]): node.pop("_target_", "evil.Evil"), **node}
    return {"hydra": _at(place, _wrapped(draw, node) if draw.random() < 0.4 else node)}, True


def _logging(draw: random.Random, to: str) -> dict[str, Any]:
    handler = {draw.choice(["class", "()"]): "logging.FileHandler", "filename": to}
    return {"version": 1, "handlers": {"x": handler}, "root": {"level": "DEBUG", "handlers": ["x"]}}


def _writing(draw: random.Random, jail: Jail) -> tuple[dict[str, Any], bool]:
    """Return a class that a configuration may name, whose every text is a path elsewhere."""
    from lightning.pytorch import callbacks, loggers

    from peftlab.callbacks import progress
    from peftlab.loggers import metrics_csv, mlflow, tensorboard, wandb
    from peftlab.training import interruption, keep_best, predictions, trail

    ours = (predictions, trail, keep_best, interruption, progress, metrics_csv, mlflow, tensorboard, wandb)
    classes = [
        value
        for module in (callbacks, loggers, *ours)
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__.startswith(("lightning.pytorch.", "peftlab."))
    ]
    cls = draw.choice(sorted(classes, key=lambda each: f"{each.__module__}.{each.__name__}"))
    node: dict[str, Any] = {"_target_": f"{cls.__module__}.{cls.__name__}"}
    if draw.random() < 0.5 and cls.__module__.startswith("lightning.pytorch."):
        node["_target_"] = f"{'.'.join(cls.__module__.split('.')[:3])}.{cls.__name__}"
    try:
        parameters = list(inspect.signature(cls).parameters.values())
    except ValueError:
        parameters = []
    for parameter in parameters:
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or not (required or draw.random() < 0.6):
            continue
        node[parameter.name] = (
            _path_elsewhere(draw, jail) if required or draw.random() < 0.8 else draw.choice([1, True])
        )
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        node[draw.choice(["dir", "save_dir", "root_dir", "log_dir", "dirpath", "settings"])] = _path_elsewhere(
            draw, jail
        )
    group = "logger" if "logger" in cls.__module__ else "callbacks"
    return {draw.choice([group, group, "callbacks", "logger"]): {draw.choice(["x", "csv", "progress"]): node}}, False


def _path_elsewhere(draw: random.Random, jail: Jail) -> str:
    up = "../" * draw.randint(1, 6)
    whole = str(jail.elsewhere)
    return draw.choice(
        [whole, f"{whole}/new", f"{whole}/metrics.csv", f"{up}elsewhere", f"x/{up}../elsewhere", "..", "/"]
    )


def _tagged(draw: random.Random, jail: Jail) -> tuple[dict[str, Any], bool]:
    """Return a text in YAML whose tags make Python objects."""
    mark = str(jail.canary / "tag")
    tag = draw.choice(
        [
            f"!!python/object/apply:os.mkdir [{mark}]",
            f"!!python/object/new:os.mkdir [{mark}]",
            f"!!python/object/apply:os.system ['touch {mark}']",
            f"!!python/object/apply:subprocess.check_output [[touch, {mark}]]",
            f"!!python/object/apply:pathlib.PosixPath [{jail.elsewhere}]",
            f"!!python/object/apply:pathlib.Path [{jail.elsewhere}]",
            "!!python/name:os.system",
            "!!python/module:evil",
            "!!python/object:evil.Evil {}",
            "!!python/tuple [1, 2]",
            "!!python/bytes aGFsbG8=",
            "!evil {a: 1}",
            "!!set {a, b}",
            "!!binary aGFsbG8=",
            "!!omap [a: 1]",
            "!!timestamp 2026-01-01",
        ]
    )
    place = draw.choice(
        ["name", "run_dir", "data.path", "model.path", "callbacks.x.folder", "logger.x.save_dir", "seed"]
    )
    target = {"callbacks": "peftlab.training.predictions.Predictions", "logger": "lightning.pytorch.loggers.CSVLogger"}
    tree = _at(place, {"TAG": tag})
    section = place.partition(".")[0]
    if section in target and draw.random() < 0.8:
        tree[section]["x"]["_target_"] = target[section]
    if (place == "run_dir" and "PosixPath" in tag) or (place == "run_dir" and "pathlib.Path" in tag):
        tree = _at("name", {"TAG": tag})
    return tree, True


def _named(draw: random.Random, jail: Jail) -> tuple[dict[str, Any], bool]:
    """Return a name or a path that leads out, or that a shell or a terminal would take for more than a name."""
    name = draw.choice(
        [
            *("..", "../x", "../../elsewhere/x", "a/../../../elsewhere/x", str(jail.elsewhere / "x"), "~/x", "~root/x"),
            *("", ".", "/", "-rf", "--help", f"$(touch {jail.canary}/x)", f"`touch {jail.canary}/x`", "a\nb", "a\0b"),
            *(
                "x" * 300,
                "x/" * 3000,
                "\u202etxt.exe",
                "\x1b[2J",
                "con",
                "a\\..\\b",
                "é" * 130,
                "%s%n",
                "{0.__class__}",
            ),
            *("file:///etc/passwd", "http://127.0.0.1:1/x", "s3://bucket/x", "/dev/stdin", "/proc/self/mem", "."),
        ]
    )
    if draw.random() < 0.15:
        name = str(draw.choice([10**400, float("nan"), True, [1], {"a": 1}, -1]))
    key = draw.choice(
        [
            *(
                "name",
                "name",
                "data.name",
                "task.name",
                "peft.name",
                "model.name",
                "budget.name",
                "data.path",
                "model.path",
            ),
            *(
                "adapter",
                "data.splits.train",
                "data.splits.test",
                "model.source.path",
                "data.source.path",
                "logger.csv.name",
            ),
            *(
                "logger.csv.folder",
                "callbacks.progress.path",
                "existing",
                "seed",
                "trainer.strategy",
                "trainer.accelerator",
            ),
            *("optimizer.algorithm.x", "data.format.separator", "sweep.name", "sweep.launcher", "trainer.precision"),
        ]
    )
    tree = _at(key, name)
    if key.startswith(("logger.csv", "callbacks.progress")):
        section = key.partition(".")[0]
        target = {
            "logger": "peftlab.loggers.metrics_csv.MetricsCsv",
            "callbacks": "peftlab.callbacks.progress.Progress",
        }
        next(iter(tree[section].values()))["_target_"] = target[section]
    if draw.random() < 0.15:
        source = {
            "_target_": draw.choice(["peftlab.sources.IndexSource", "peftlab.sources.HubSource"]),
            "wheel": draw.choice(["--help==1", f"x=={name}", "x @ file:///etc/passwd==1", "x==1"]),
            "repo": draw.choice([name, "../../x", "org/name"]),
            "folder": draw.choice([name, "x"]),
            "sha256": {draw.choice([name, "x"]): "0" * 64},
        }
        kept = {"wheel", "folder", "sha256"} if source["_target_"].endswith("IndexSource") else {"repo"}
        source = {key: value for key, value in source.items() if key in kept or key == "_target_"}
        tree = {draw.choice(["data", "model"]): {"source": source}}
    return tree, draw.random() < 0.5


def _resolving(draw: random.Random, jail: Jail) -> tuple[dict[str, Any], bool]:
    """Return interpolations: of variables, of what is not there, of one another, and of what they would make."""
    node = _payload(draw, jail)
    text = draw.choice(
        [
            "${oc.env:HOME}/../elsewhere/x",
            "${oc.env:NO_SUCH_VARIABLE}",
            "${oc.env:NO_SUCH_VARIABLE,null}",
            "${oc.decode:'{_target_: evil.Evil}'}",
            f"${{oc.create:{json.dumps(node)}}}",
            "${oc.dict.keys:model}",
            "${oc.select:no.such.key}",
            "${hydra:runtime.cwd}/../elsewhere",
            "${hydra:sweep.dir}",
            "${name}",
            "${own}",
            "${.own}",
            "${..}",
            "${" * 60 + "a" + "}" * 60,
            "${python:__import__('evil')}",
            "${eval:1}",
            "${now:%Y}",
            "???",
            "${oc.deprecated:name}",
            "\\${x}",
            "${",
        ]
    )
    place = draw.choice(
        ["name", "data.name", "own", "callbacks.x", "logger.x", "seed", "hydra.job.name", "hydra.callbacks"]
    )
    tree: dict[str, Any] = _at(place, text)
    if draw.random() < 0.5:
        tree |= {"own": draw.choice([node, "${name}", "${own}", {"x": "${own}"}])}
    return tree, draw.random() < 0.3


def _malformed(draw: random.Random, jail: Jail) -> tuple[dict[str, Any], bool]:
    """Return a text that is hardly YAML, or too much of it."""
    aliases = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    text = draw.choice(
        [
            aliases,
            "own: " + "[" * 3000 + "]" * 3000,
            "own: " + "{a: " * 400 + "1" + "}" * 400,
            "own: &x [*x]",
            "own: &x {a: *x}",
            "<<: &x {<<: *x}",
            "own: " + "x" * 3_000_000,
            "seed: " + "9" * 5000,
            "seed: 1e400\nname: .nan",
            "seed: 1\nseed: 2",
            "a: b: c",
            "\tname: x",
            "name: 'x",
            "- name",
            "null",
            "",
            "name: \x00",
            "\ufeffname: x",
            "%YAML 9.9\n---\nname: x",
            "---\nname: x\n---\nname: y",
            "? [a, b]\n: x",
            "1: x\n1.5: y\nnull: z\ntrue: w",
            "name: 0o777\nseed: 0x10",
            "optimizer: {lr: .inf}",
            "trainer: null\nmodel: null",
            "trainer: []\ndata: 1",
            "callbacks: [a, b]",
            "logger: {x: 1}",
            "budget: {max_steps: 99999999999999999999}",
            "peft: {r: -1}",
            "defaults:\n  - /../../elsewhere/x\n",
            "defaults:\n  - override /peft: ../../../elsewhere/x\n",
            "defaults:\n  - /hydra/launcher: ../../x\n",
            "defaults:\n  - experiment: x\n",
            "defaults: {a: b}",
            "defaults:\n  - _self_\n  - _self_\n",
        ]
    )
    return {"TEXT": text}, False


# How it is brought ---------------------------------------------------------------------------------------------------


def _brought(draw: random.Random, jail: Jail, tree: dict[str, Any], plain: bool) -> tuple[list[str], str]:
    """Return the arguments that bring `tree`, and the text of the file that holds it."""
    if plain and "TEXT" not in tree and "TAG" not in json.dumps(tree) and draw.random() < 0.15:
        return _typed(draw, tree), ""
    text = tree["TEXT"] if "TEXT" in tree else _as_yaml(draw, tree)
    ways: list[Callable[[random.Random, Jail, str], list[str]]] = [_as_experiment, _as_experiment, _as_option, _aside]
    arguments = draw.choice(ways)(draw, jail, text)
    return arguments, text[:500]


def _typed(draw: random.Random, tree: dict[str, Any]) -> list[str]:
    key, node = "", tree
    while isinstance(node, dict) and len(node) == 1 and "_target_" not in node:
        (leaf, node), *_ = node.items()
        key = f"{key}.{leaf}" if key else leaf
    return [f"{draw.choice(['+', '++', ''])}{key}={json.dumps(node, ensure_ascii=False)}"]


def _as_yaml(draw: random.Random, tree: dict[str, Any]) -> str:
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=draw.random() < 0.5)
    if "TAG" in tree or "TAG:" in text:
        import re

        text = re.sub(r"\n\s+TAG: (['\"]?)(.*?)\1\n", lambda m: " " + m[2].replace("''", "'") + "\n", text)
    if draw.random() < 0.25:  # the same by an alias
        lines = text.splitlines()
        text = f"own_anchor: &own {json.dumps(tree[next(iter(tree))])}\n{next(iter(tree))}: *own\n"
        text = text if len(lines) and "TAG" not in text else "\n".join(lines) + "\n"
    return text


def _written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(errors="surrogatepass"))


def _as_experiment(draw: random.Random, jail: Jail, text: str) -> list[str]:
    package = draw.choice(["# @package _global_\n"] * 5 + ["", "# @package hydra\n", "# @package _global_.x\n"])
    folder = jail.here / "own_conf"
    _written(folder / "experiment" / "x.yaml", package + text)
    way = draw.random()
    if way < 0.6:
        return ["--config-dir", str(folder), "+experiment=x"]
    if way < 0.8:
        return [f"hydra.searchpath=[file://{folder}]", "+experiment=x"]
    return [draw.choice(["--config-dir=own_conf", "-cd=own_conf"]), "experiment=x", draw.choice(["+", ""]) + "own=1"]


def _as_option(draw: random.Random, jail: Jail, text: str) -> list[str]:
    group = draw.choice(
        ["peft", "callbacks", "logger", "trainer", "data", "hydra/launcher", "hydra/callbacks", "hydra/env"]
    )
    folder = jail.here / "own_conf"
    _written(folder / group / "x.yaml", draw.choice(["", "# @package _global_\n"]) + text)
    name = f"[{draw.choice(['', 'x,'])}x]" if group in ("callbacks", "logger") else "x"
    return ["--config-dir", str(folder), f"{draw.choice(['', '+', 'override '])}{group}={name}"]


def _aside(draw: random.Random, jail: Jail, text: str) -> list[str]:
    """Bring it from outside the folders of configuration: by a path in a choice, a link, or Hydra's own options."""
    _written(jail.elsewhere / "x.yaml", "# @package _global_\n" + text)
    up = "../" * draw.randint(1, 9)
    whole = str(jail.elsewhere).lstrip("/")
    folder = jail.here / "own_conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "x.yaml").symlink_to(jail.elsewhere / "x.yaml")
    return draw.choice(
        [
            [f"+experiment={up}{whole}/x"],
            [f"+experiment={jail.elsewhere}/x"],
            [f"peft={up}{whole}/x"],
            [f"callbacks=[{up}{whole}/x]"],
            ["--config-dir", str(jail.here / "own_conf"), "+experiment=x"],
            ["--config-path", str(jail.elsewhere), "--config-name", "x"],
            ["--config-name", f"{up}{whole}/x"],
            ["-cp", str(jail.elsewhere), "-cn", "x"],
            [f"+experiment@hydra={up}{whole}/x"],
            [f"hydra/launcher={up}{whole}/x"],
        ]
    )
