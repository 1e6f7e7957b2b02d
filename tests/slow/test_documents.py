"""Every command of README and docs runs, as a reader with a small model and small data of their own would give it.

Those of `peftlab` are run by ``tests/train/test_cli.py``. Of the two that set up, ``.ci/run`` runs the second as it
stands, which installs all that the first does, and ``test_real_run.py`` the training that the first ends with.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class
from pyarrow import csv, parquet
from tests.tiny_models import OF_HEADS

from peftlab.composing.compose import compose, conf_dir
from peftlab.personal_data.key import new_key
from peftlab.runs.record import RunRecord

pytestmark = pytest.mark.slow

ROOT = conf_dir().parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    found
    for page in PAGES
    for found in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
]
SHELL = [block for language, block in BLOCKS if language == "bash"]
PYTHON = [block for language, block in BLOCKS if language == "python"]
YAML = [block for language, block in BLOCKS if language == "yaml"]
CLASSES = [block for block in PYTHON if "class " in block]
LINES = list(dict.fromkeys(line.partition(" #")[0].strip() for block in SHELL[2:] for line in block.splitlines()))


LACKING = {
    "+experiment=sentiment_lora privacy=dp": "the list of labels would be read from the examples",
    "+experiment=sentiment_lora federated=": "data.labels=null",
    "augment=[counterfactual]": "no training text has a term",
    "regularizer=[reweight]": "training examples are in the group 'none'",
}
"""What the small data has not that a documented command is about: the command says so."""


@pytest.fixture
def reader(
    tiny_model: Path,
    tiny_data: Path,
    tiny_texts: Path,
    tiny_numbers: Path,
    tiny_label_sets: Path,
    tiny_questions: Path,
    tiny_choices: Path,
    tiny_utterances: Path,
    tiny_relations: Path,
    tiny_headlines: Path,
    tiny_pictures: Path,
    tiny_recordings: Path,
    tiny_transcripts: Path,
    tiny_interactions: Path,
    tmp_path: Path,
) -> Iterator[None]:
    """Stand where the reader does, with what the README takes to be there."""
    shutil.copytree(tiny_data, tmp_path / "my_folder")
    shutil.copytree(tiny_model, tmp_path / "my_bert")
    shutil.copytree(tiny_recordings, tmp_path / "my_recordings")
    shutil.copytree(tiny_transcripts, tmp_path / "my_transcripts")
    shutil.copytree(tiny_interactions, tmp_path / "my_shop")
    shutil.copy(tiny_texts / "train.csv", tmp_path / "my_texts.csv")
    shutil.copy(tiny_numbers / "train.csv", tmp_path / "my_numbers.csv")
    shutil.copy(tiny_label_sets / "train.jsonl", tmp_path / "my_labels.jsonl")
    parquet.write_table(csv.read_csv(tmp_path / "my_texts.csv"), tmp_path / "my_texts.parquet")
    shutil.copy(tiny_questions / "train.json", tmp_path / "my_questions.json")
    shutil.copy(tiny_choices / "train.jsonl", tmp_path / "my_questions.jsonl")
    shutil.copy(tiny_utterances / "train.jsonl", tmp_path / "my_utterances.jsonl")
    shutil.copy(tiny_relations / "train.jsonl", tmp_path / "my_relations.jsonl")
    shutil.copy(tiny_headlines / "train.jsonl", tmp_path / "my_titles.jsonl")
    shutil.copy(tiny_headlines / "train.jsonl", tmp_path / "my_answers.jsonl")
    shutil.copytree(tiny_pictures, tmp_path / "my_pictures")
    files = [file.relative_to(tmp_path) for file in sorted((tmp_path / "my_pictures").rglob("*.png"))]
    (tmp_path / "my_table.csv").write_text("path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in files))
    pairs = [{"prompt": f"where is {n} ?", "chosen": "in rome .", "rejected": "ask paris"} for n in range(40)]
    (tmp_path / "my_pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (tmp_path / "my_semeval").mkdir()
    for split, name in (("train", "TRAIN_FILE.TXT"), ("test", "TEST_FILE_FULL.TXT")):
        rows = map(json.loads, (tiny_relations / f"{split}.jsonl").read_text().splitlines())
        sentences = [f'{n}\t"{row["text"]}"\n{row["label"]}\nComment:\n\n' for n, row in enumerate(rows)]
        (tmp_path / "my_semeval" / name).write_text("".join(sentences))
    texts = (tiny_texts / "train.csv").read_text().splitlines()[1:]
    (tmp_path / "my_texts.txt").write_text("\n".join(line.split('"')[1] for line in texts))
    rows = (tiny_texts / "train.csv").read_text().splitlines()
    dialects = [f"{row},{'north' if n % 2 else 'south'}" for n, row in enumerate(rows[1:])]
    (tmp_path / "my_dialects.csv").write_text("\n".join([f"{rows[0]},dialect", *dialects]))
    labelled = [
        {"text": f"{word} {n}", "label": word, "weight": 0.5 + n / 100} for n in range(20) for word in ("a", "b")
    ]
    (tmp_path / "labelled.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    sentences = [{"tokens": ["In", f"Rome{n}"], "ner_tags": ["O", "B-LOC"], "weight": 0.5 + n / 100} for n in range(40)]
    (tmp_path / "labelled_sentences.jsonl").write_text("\n".join(map(json.dumps, sentences)))
    (tmp_path / "errors.csv").write_text("split,id,reason\ntrain,train:3,label error\n")
    new_key(tmp_path / "secret.key")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    yield
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__file__", "")):  # a package of the reader's, of this test only
            del sys.modules[name]


def test_there_are_no_commands_elsewhere():
    assert {language for language, _ in BLOCKS} <= {"bash", "python", "yaml", "json", "text", ""}
    (layout,) = [block for language, block in BLOCKS if not language]
    assert layout.startswith("conf/")


@pytest.mark.usefixtures("reader")
@pytest.mark.one_in(10, "exhaustive")
@pytest.mark.parametrize("line", [line for line in LINES if not re.match("peftlab (?!train)", line)])
def test_every_command_runs(command, tiny_run, data_for, language_model, monkeypatch, line):
    words = shlex.split(line)
    if words[0] == "cd":
        monkeypatch.chdir(words[1])
        monkeypatch.syspath_prepend(Path.cwd())  # as python -m does
        words = words[3:]
    if words[:2] == ["peftlab", "train"]:  # which does the same, see tests/unit/commands/test_train.py
        words = ["python", "-m", *words[1:]]
    assert words[:3] == ["python", "-m", "train"], "no test runs such a command yet: teach this one"
    arguments = [  # of a model with fewer layers
        word.replace("layer.5.", "layer.1.").replace("peft.layers=[0,1,2,5]", "peft.layers=[1]") for word in words[3:]
    ]
    if any("3f9c" in argument for argument in arguments):  # a finished run on the same data
        earlier = get_class(compose(*(word for word in arguments if "=" in word)).task._target_)
        same = [word for word in arguments if word.startswith(("task=", "data=", "data.path="))]
        assert command(*tiny_run, *data_for(earlier), *same, "run_dir=earlier/3f9c").code == 0
        arguments = [argument.replace("3f9c", "earlier/3f9c") for argument in arguments]
    if "--help" in arguments or "--cfg" in arguments:
        ended = command(*arguments)
        assert ended.out
    elif "-m" in arguments:
        given = {argument.lstrip("+").split("=")[0] for argument in arguments}
        tiny = [*tiny_run, "data=files", f"data.path={Path.cwd() / 'my_folder'}", "data.max_tokens=64"]
        tiny += ["logger=[csv]", "callbacks=[]", "sweep.probe_seconds=0.1", "sweep.report=false"]
        launcher = next((word.partition("=")[2] for word in words if word.startswith("hydra/launcher=")), None)
        if launcher is None:
            tiny.append("hydra.launcher.trials_at_once=2")
        else:
            pytest.importorskip(launcher.partition("_")[0])
        if not any(word.startswith("sweep=") for word in words):  # grids run in test_sweeps.py and test_clusters.py
            tiny.append("sweep.dry_run=true")
        more = [override for override in tiny if override.split("=")[0] not in given]
        ended = subprocess.run([sys.executable, *words[1:], *more], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        records = [RunRecord.load(file.parent) for file in Path("sweeps").glob("*/*/record.json")]
        assert bool(records) != ("sweep.dry_run=true" in [*arguments, *more])
        assert {record.data["status"] for record in records} <= {"completed", "pruned"}
        return
    else:
        config_dir = arguments[arguments.index("--config-dir") + 1] if "--config-dir" in arguments else None
        composed = compose(*(word for word in arguments if "=" in word), config_dir=config_dir)
        task = get_class(composed.task._target_)
        given = {argument.lstrip("+").split("=")[0] for argument in arguments}
        tiny = [*tiny_run, *data_for(task), "data.max_tokens=64"]
        if kind := OF_HEADS.get(task.head.model):
            tiny.append(f"model.path={language_model(kind)}")
        if composed.budget.per_class is not None:  # or a sample of so many, as the smallest budget has
            tiny.append("budget.train_examples=null")
        arguments = [word for word in arguments if not re.match("model=(?!folder)", word)]  # no weights are fetched
        given = {argument.lstrip("+").split("=")[0] for argument in arguments}
        settings = {setting.split("=")[0]: setting for setting in tiny}  # the last one of a key counts
        ended = command(*arguments, *(setting for key, setting in settings.items() if key not in given))
        if lacking := [message for part, message in LACKING.items() if part in line]:
            assert ended.code == 2
            assert all(message in ended.err for message in lacking), ended.err
            return
        assert ended.code == 0, ended.err
        if composed.stream is not None:
            assert len(list(Path("streams").glob("*/stream.json"))) == 1
            return
        (record,) = Path("runs").glob("*/*/record.json")
        assert RunRecord.load(record.parent).data["status"] == "completed"
    assert ended.code == 0, ended.err


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("block", [block for block in PYTHON if block not in CLASSES])
def test_the_python_runs(command, tiny_overrides, made_once, block):
    def two_seeds(folder: Path) -> None:
        for seed, name in enumerate(["3f9c2a71d0be", "8b1e0d55c2f4"]):
            assert command(*tiny_overrides, f"seed={seed}", f"run_dir={folder / name}").code == 0

    shutil.copytree(made_once("two_seeds", two_seeds), "runs/ner_lora")
    names: dict[str, Any] = {}
    exec(block, names)
    if "run" in names:
        assert names["run"].evaluate().equal
    assert Path("exported/model.safetensors").is_file() == ("export(" in block)


@pytest.mark.usefixtures("reader")
def test_a_regulariser_of_the_readers_own_is_trained_with(command, tiny_overrides, monkeypatch):
    (code,), (option,) = CLASSES, [block for block in YAML if "_target_" in block]
    for file, content in {
        "my_package/__init__.py": "",
        "my_package/steady.py": code,
        "my_conf/regularizer/steady.yaml": option,
    }.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(content)
    monkeypatch.syspath_prepend(Path.cwd())
    chosen = ["--config-dir", "my_conf", "allow=[my_package]", "regularizer=[steady]", "logger=[csv]"]
    ended = command(*chosen, *tiny_overrides, "run_dir=run")
    assert ended.code == 0, ended.err
    assert "train/steady" in Path("run/metrics.csv").read_text()
