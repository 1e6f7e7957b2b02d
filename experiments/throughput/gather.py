"""Gather what a machine without a network lacks for `on_a_gpu.sh`: packages, the model and the data.

python experiments/throughput/gather.py FOLDER --has FILE [--python 3.12] [--without NAME ...]

FILE lists what is installed there, as `pip list --format=freeze` or name by name: torch for CUDA has to be among it,
and better lightning, transformers, peft and all that is large. What peftlab wants beside these goes into FOLDER/wheels,
in the versions that are installed here, for that version of Python on x86-64 Linux; --without leaves out what no run
there imports (by default wandb and optuna). FOLDER/model is MiniLM with its weights in bf16, half the size: what trains
there are not the weights that runs elsewhere start from, but the same for all that is compared. FOLDER/cache is the
cache of peftlab with CoNLL-2003. Where the number of bytes is limited, pack FOLDER (`tar cJf`).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TESTS = ("pytest", "pytest-xdist", "hypothesis", "accelerate", "trl", "datasets")
"""What the tests and the measurements want besides."""
GLIBC = (17, 24, 27, 28, 31, 34, 35)
"""Versions 2.N of the C library whose wheels are accepted."""
RUN = ["+experiment=ner_lora", "logger=[]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--has", type=Path, required=True, metavar="FILE")
    parser.add_argument("--python", default="3.12", metavar="VERSION")
    parser.add_argument("--without", nargs="*", default=["wandb", "optuna"], metavar="NAME")
    chosen = parser.parse_args()
    wheels = chosen.folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    names = re.findall(r"^[A-Za-z0-9][\w.-]*", chosen.has.read_text(encoding="utf-8"), re.MULTILINE)
    there = {canonicalize_name(name) for name in [*names, *chosen.without]}
    for name, version in lacking(there, chosen.python).items():
        fetch(f"{name}=={version}", wheels, chosen.python)
    copy_model_and_data(chosen.folder)
    size = sum(file.stat().st_size for file in chosen.folder.rglob("*") if file.is_file())
    print(f"{chosen.folder}: {size / 2**20:.1f} MiB")


def lacking(there: set[str], python: str) -> dict[str, str]:
    """Return the packages that a run wants and that are not `there`, with the versions that are installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted: dict[str, str] = {}
    seen = set(there)

    def walk(requirement: str) -> None:
        parsed = Requirement(requirement)
        name = canonicalize_name(parsed.name)
        if name in seen or not (parsed.marker is None or parsed.marker.evaluate({"python_version": python})):
            return
        seen.add(name)
        wanted[name] = importlib.metadata.version(name)
        for further in importlib.metadata.requires(name) or []:
            if "extra ==" not in further:
                walk(further)

    for requirement in [*project["dependencies"], *TESTS]:
        walk(requirement)
    return wanted


def fetch(package: str, folder: Path, python: str) -> None:
    """Fetch the wheel of `package`, or build it where there are only sources, which must be pure Python."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    command = ["download", "--no-deps", "--only-binary=:all:", "--dest", folder, "--implementation=cp"]
    command += [f"--python-version={python}", *platforms()]
    if subprocess.run([*pip, *command, package], check=False, stderr=subprocess.DEVNULL).returncode:
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, package], check=True)


def platforms() -> Iterator[str]:
    """Yield the options that name the platforms whose wheels are accepted."""
    yield from (f"--platform=manylinux_2_{version}_x86_64" for version in GLIBC)
    yield "--platform=manylinux2014_x86_64"


def copy_model_and_data(folder: Path) -> None:
    """Copy MiniLM, in bf16, and CoNLL-2003 in the layout of the cache."""
    import torch
    from safetensors.torch import load_file, save_file

    from peftlab.composing.compose import compose
    from peftlab.config import resolve, validate
    from peftlab.models import backbone

    spec = validate(resolve(compose(*RUN)))
    model = backbone.fetch(spec.model).folder
    shutil.copytree(model, folder / "model", dirs_exist_ok=True)
    tensors = load_file(model / "model.safetensors")
    halved = {name: each.to(torch.bfloat16) if each.is_floating_point() else each for name, each in tensors.items()}
    save_file(halved, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    data = spec.data.source.fetch().folder
    shutil.copytree(data, folder / "cache" / "index" / data.name, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
