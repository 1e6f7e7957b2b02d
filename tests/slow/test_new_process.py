"""A finished run in a process of its own, which knows nothing but the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from tests.forks import fork_ours, start_interpreters

from peftlab.devices.openmp import THREADS, WAITING
from peftlab.one_run import run

pytestmark = [pytest.mark.slow, pytest.mark.new_interpreter]


def test_the_same_command_in_two_processes_gives_the_same_bits(tiny_overrides, tmp_path):
    for folder, starts in {"first": start_interpreters, "second": fork_ours}.items():  # their strings hash otherwise
        starts()
        command = [sys.executable, "-m", "train", *tiny_overrides, "budget.max_steps=12", f"run_dir={folder}"]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    first, second = (json.loads((tmp_path / folder / "record.json").read_text()) for folder in ("first", "second"))
    assert first["identity"] == second["identity"]
    digests = [
        {file["path"]: file["sha256"] for file in record["files"] if file["path"] != "config.yaml"}
        for record in (first, second)
    ]
    assert digests[0] == digests[1]
    assert first["metrics"] == second["metrics"]


@pytest.mark.parametrize("arguments", [["runs"], ["--help"], ["predict", "--help"], ["evaluate", "nothing"]])
def test_what_needs_no_model_imports_nothing_heavy(tmp_path, arguments):
    code = (
        "import sys; from peftlab import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'lightning', 'peft', 'hydra'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


BARE = '''
"""Run the command peftlab with the packages alone that an installation without extras has."""

import sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(name, extras=("",)):
    """Add a distribution, and all that it needs, to what is installed."""
    if (name, extras) in installed:
        return
    try:
        wanted = list(map(Requirement, requires(name) or []))
    except PackageNotFoundError:  # for another system
        return
    installed.add((name, extras))
    for one in wanted:
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
            needed(canonicalize_name(one.name), ("", *sorted(one.extras)))


installed = set()
needed("peftlab")
names = {name for name, _ in installed}
others = {
    module
    for module, owners in packages_distributions().items()
    if names.isdisjoint(map(canonicalize_name, owners))
}


class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in others else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *context):
        found = super().find_distributions(*context)
        return (one for one in found if canonicalize_name(one.metadata["Name"]) in names)


assert {"pytest", "seqeval"} <= others and not {"torch", "peft", "numpy", "yaml"} & others
sys.meta_path[sys.meta_path.index(PathFinder)] = Installed

from peftlab.cli import main

main()
'''


@pytest.mark.exhaustive
def test_an_installation_without_extras_has_all_methods(tiny_model, tmp_path):
    command = [sys.executable, "-c", BARE, "methods", "--json", "--model", str(tiny_model)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert all(row["tasks"] for row in json.loads(ended.stdout))


def test_the_module_is_the_command(tmp_path):
    command = [sys.executable, "-m", "peftlab", "evaluate", "nothing"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: 'nothing' is no run folder")
    assert "Traceback" not in ended.stderr


RUNPY = {"importlib", "warnings", "contextlib", "collections", "keyword", "operator", "reprlib", "functools", "types"}
"""What Python imports itself for ``-m``, before there is anything of ours."""


@pytest.mark.parametrize(
    ("start", "arguments"),
    [
        (["-m", "peftlab"], ["predict", "RUN", "A text."]),
        pytest.param(
            ["-c", "import sys; from peftlab.cli import main; main(sys.argv[1:])"],
            ["methods", "lora"],
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=str,
)
def test_the_command_imports_nothing_from_the_current_folder(
    compose_config, tiny_overrides, tmp_path, start, arguments
):
    run(compose_config(*tiny_overrides, "budget.max_steps=2", f"run_dir={tmp_path / 'run'}"))
    folder = tmp_path / "hostile"
    folder.mkdir()
    names = {*sys.stdlib_module_names, *packages_distributions(), "conf", "train", "sitecustomize"}
    for name in names - RUNPY - {"peftlab"}:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(f"raise SystemExit('imported {name}')")
    command = [sys.executable, *(["-P"] if start[0] == "-c" else []), *start]
    arguments = [str(tmp_path / "run") if text == "RUN" else text for text in arguments]
    ended = subprocess.run([*command, *arguments], check=False, cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert not list(folder.rglob("*.pyc"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_openmp_is_loaded_with_the_settings_of_a_busy_cpu(tiny_overrides, tmp_path, how):
    """A thousand threads want more than the CPU has, so that they sleep; the setting comes before torch."""
    command = [sys.executable, "-m", "train", *how, *tiny_overrides, "trainer.threads=1000", "optimizer.lr=-1"]
    environment = {name: value for name, value in os.environ.items() if name not in (*WAITING, *THREADS)}
    environment["OMP_DISPLAY_ENV"] = "TRUE"
    ended = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "optimizer.lr" in ended.stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in ended.stderr
    assert "threads sleep while they wait for one another" in ended.stdout
