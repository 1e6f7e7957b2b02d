"""A tiny BERT and a tiny CoNLL data set, made here, so that every test runs offline and in seconds."""

from __future__ import annotations

import functools
import gc
import json
import os
import pickle
import random
import re
import runpy
import shutil
import signal
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from filelock import FileLock
from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from tests.sound_models import MAKERS, make_sound_model, write_tones
from tests.tiny_models import make_language_model
from tests.vision_models import FAMILIES, draw_pictures, make_vision_model

from peftlab.composing.compose import conf_dir, config_groups
from peftlab.composing.own_hydra import own_hydra
from peftlab.imports import stop_finding_here, without_collecting
from peftlab.reading.unicode_text import Door

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: tiny models gain nothing from threads, and lose by sharing cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the few that run on several threads share cores with others


def pytest_configure(config: pytest.Config) -> None:
    """Import what tests import, and fork the fork server, in each process that runs tests.

    Before pytest turns to logs and warnings, which forks would inherit. The first of pytest-xdist's runs no test.
    """
    from hypothesis import HealthCheck, settings
    from hypothesis.configuration import set_hypothesis_home_dir
    from tests.forks import serve

    # no test of hypothesis is to fail because the machine has other work: it times what it does
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    # its tables of characters, which take seconds, are read where tests left them: each works in a folder of its own
    set_hypothesis_home_dir(config.rootpath / ".hypothesis")
    if hasattr(config, "workerinput") or getattr(config.option, "dist", "no") == "no":
        with without_collecting():
            import peftlab.one_run  # noqa: F401
        serve()


SLOW_AS_A_WHOLE = re.compile(r"^pytestmark = (?:\[\s*)?pytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m slow``, as with any mark alone, leave out the files that cannot have it: two of three.

    A test has it from its file, from a fixture's parameters in the ``conftest.py`` beside it, or from what its file
    imports of ours. By default, leave out the files that are slow as a whole.
    """
    mark = config.option.markexpr
    if mark.startswith("not slow") and collection_path.suffix == ".py":
        return SLOW_AS_A_WHOLE.search(collection_path.read_text("utf-8")) is not None or None
    if mark.isidentifier() and collection_path.suffix == ".py":
        places = [collection_path, collection_path.with_name("conftest.py")]
        texts = [place.read_text("utf-8") for place in places if place.is_file()]
        return (not any(mark in text for text in texts) and "\nfrom tests." not in texts[0]) or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the parameters that `one_in` puts into another tier; what is `exhaustive` is not `slow`, whatever it has."""
    numbers: Counter[str] = Counter()
    for item in items:
        test = item.nodeid.partition("[")[0]
        for mark in item.iter_markers("one_in"):
            if numbers[test] % mark.args[0]:
                item.add_marker(mark.args[1])
        numbers[test] += 1
    if config.option.markexpr == "slow":
        exhaustive = [item for item in items if item.get_closest_marker("exhaustive") is not None]
        config.hook.pytest_deselected(items=exhaustive)
        items[:] = [item for item in items if item.get_closest_marker("exhaustive") is None]


def pytest_collection_finish() -> None:
    """Leave what has been collected out of every search for garbage, which would take a second, and search rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


NAMES = {
    "PER": ["Marie Curie", "Ada Lovelace", "Noether", "Alan Turing"],
    "LOC": ["Paris", "New York", "Warsaw", "Rome"],
    "ORG": ["Unesco", "Royal Society", "Acme"],
}
TEMPLATES = [
    "{PER} moved from {LOC} to {LOC} .",
    "{ORG} hired {PER} in {LOC} yesterday",
    "the {ORG} report was read by {PER} , said {PER} .",
    "nothing happened today .",
    "{LOC} is larger than {LOC}",
]


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Have a report that holds half a character, in what was logged, say, reach pytest-xdist's other process."""
    return Door().value((yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Have commands of ours forked, see `tests.forks`, but where a test is about new interpreters."""
    from tests.forks import fork_ours, start_interpreters  # scripts import this file too, from wherever they stand

    if item.get_closest_marker("new_interpreter") is None:
        fork_ours()
    try:
        return (yield)
    finally:
        start_interpreters()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every test a cache and a working folder of its own, nobody's W&B account and no store of MLflow's.

    Nobody waits for the disk: what has been written need not outlast a loss of power.
    """
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    ours = ("WANDB_", "MLFLOW_TRACKING_URI")  # the latter MLflow sets itself
    for key in [key for key in os.environ if key.startswith(ours) and key != "WANDB_ERROR_REPORTING"]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    finders = [*sys.meta_path]
    yield
    stop_finding_here(finders)


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Return the folder of a name, which the first that asks for it fills, for all of pytest-xdist's processes."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    place.mkdir(exist_ok=True)

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, filled = place / name, place / f"{name}.filled"
        with FileLock(place / f"{name}.lock"):
            if not filled.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(made_once: MadeOnce) -> Path:
    """A folder with a BERT of 2 layers and hidden size 32, randomly initialised, and its tokenizer."""
    return made_once("model", make_model)


def make_model(folder: Path) -> Path:
    """Make that model in `folder`."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    text = " ".join([*TEMPLATES, *(name for names in NAMES.values() for name in names)]).lower()
    pieces = sorted({c for c in text if c.isalnum()})
    words = [w for w in sorted(set(text.replace("{", " ").replace("}", " ").split())) if len(w) % 3]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *pieces, *("##" + p for p in pieces), *words]
    vocabulary = list(dict.fromkeys(vocabulary))
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def language_model(made_once: MadeOnce) -> Callable[[str], Path]:
    """Return a maker of the folders of tiny decoders, encoder-decoders, vision models and models for sounds, by kind;
    see `tests.tiny_models`, `tests.vision_models` and `tests.sound_models`."""

    def make(kind: str, folder: Path) -> Path:
        if kind in MAKERS:
            return make_sound_model(kind, folder)
        return make_vision_model(kind, folder) if kind in FAMILIES else make_language_model(kind, folder)

    return lambda kind: made_once(f"model_{kind}", lambda folder: make(kind, folder))


@pytest.fixture(scope="session")
def tiny_pictures(made_once: MadeOnce) -> Path:
    """A folder with train, dev and test, each with the folders green and red of 10 pictures."""
    return made_once("pictures", draw_pictures)


@pytest.fixture(scope="session")
def tiny_recordings(made_once: MadeOnce) -> Path:
    """A folder with tables for train, validation and test of recordings of low and high tones by 4 speakers each."""
    return made_once("recordings", lambda folder: write_tones(folder, speakers=12))


@pytest.fixture(scope="session")
def tiny_transcripts(made_once: MadeOnce) -> Path:
    """The same with what is said: ``down`` or ``up``."""
    said = {"low": "down", "high": "up"}
    return made_once("transcripts", lambda folder: write_tones(folder, "text", said.__getitem__, 12))


def sentences(count: int, seed: int) -> str:
    """Return `count` sentences as CoNLL text with two columns."""
    draw = random.Random(seed)
    lines: list[str] = []
    for _ in range(count):
        for part in draw.choice(TEMPLATES).split():
            type_ = part.strip("{}")
            if type_ in NAMES:
                words = draw.choice(NAMES[type_]).split()
                lines += [f"{word} {'I' if n else 'B'}-{type_}" for n, word in enumerate(words)]
            else:
                lines.append(f"{part} O")
        lines.append("")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tiny_data(made_once: MadeOnce) -> Path:
    """A folder with train.txt, dev.txt and test.txt of 48, 16 and 16 sentences, types LOC, ORG, PER."""
    return made_once("data", make_data)


def make_data(folder: Path) -> Path:
    """Make those files in `folder`."""
    for number, (name, count) in enumerate({"train": 48, "dev": 16, "test": 16}.items()):
        (folder / f"{name}.txt").write_text(sentences(count, seed=number), encoding="utf-8")
    return folder


LABELS = ["move", "hire", "report", "nothing", "compare"]
"""Of each template; `TEMPLATES` are told apart by their words."""


def texts(count: int, seed: int) -> str:
    """Return `count` texts and their labels as CSV with a header."""
    draw = random.Random(seed)
    lines = ["text,label"]
    for _ in range(count):
        kind = draw.randrange(len(TEMPLATES))
        words = [draw.choice(NAMES.get(part.strip("{}"), [part])) for part in TEMPLATES[kind].split()]
        lines.append(f'"{" ".join(words)}",{LABELS[kind]}')
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tiny_texts(made_once: MadeOnce) -> Path:
    """A folder with train.csv, dev.csv and test.csv of 48, 16 and 16 texts with one of `LABELS` each."""

    def fill(folder: Path) -> None:
        for number, (name, count) in enumerate({"train": 48, "dev": 16, "test": 16}.items()):
            (folder / f"{name}.csv").write_text(texts(count, seed=number), encoding="utf-8")

    return made_once("texts", fill)


@pytest.fixture(scope="session")
def tiny_numbers(made_once: MadeOnce, tiny_texts: Path) -> Path:
    """The same texts with a number each: twice the place of the label among `LABELS`, and a half."""

    def fill(folder: Path) -> None:
        for file in tiny_texts.iterdir():
            header, *rows = file.read_text(encoding="utf-8").splitlines()
            numbered = [f"{row.rpartition(',')[0]},{2 * LABELS.index(row.rpartition(',')[2]) + 0.5}" for row in rows]
            (folder / file.name).write_text("\n".join([header, *numbered]) + "\n", encoding="utf-8")

    return made_once("numbers", fill)


@pytest.fixture(scope="session")
def tiny_label_sets(made_once: MadeOnce, tiny_texts: Path) -> Path:
    """The same texts as JSON lines, with the types of `NAMES` that each mentions as their labels, if any."""

    def fill(folder: Path) -> None:
        for file in tiny_texts.iterdir():
            rows = []
            for row in file.read_text(encoding="utf-8").splitlines()[1:]:
                text = row.rpartition(",")[0].strip('"')
                labels = [type_ for type_, names in NAMES.items() if any(name in text for name in names)]
                rows.append(json.dumps({"text": text, "labels": labels}))
            (folder / f"{file.stem}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")

    return made_once("label_sets", fill)


ASKED = ["moved", "hired", "read", "happened", "is"]
"""A question about each template, of one token: who or what it begins with."""


def questions(count: int, seed: int) -> dict[str, Any]:
    """Return `count` of these questions about texts, as SQuAD has them."""
    draw = random.Random(seed)
    paragraphs: list[dict[str, Any]] = []
    for number in range(count):
        kind = draw.randrange(len(TEMPLATES))
        words = [draw.choice(NAMES.get(part.strip("{}"), [part])) for part in TEMPLATES[kind].split()]
        first = 1 if words[0] == "the" else 0
        answer = {"text": words[first], "answer_start": 4 * first}
        asked = {"id": f"{seed}.{number}", "question": ASKED[kind], "answers": [answer]}
        paragraphs.append({"context": " ".join(words), "qas": [asked]})
    return {"version": "1.1", "data": [{"title": "tiny", "paragraphs": paragraphs}]}


@pytest.fixture(scope="session")
def tiny_questions(made_once: MadeOnce) -> Path:
    """A folder with train.json, dev.json and test.json of 48, 16 and 16 questions, one about each text."""

    def fill(folder: Path) -> None:
        for number, (name, count) in enumerate({"train": 48, "dev": 16, "test": 16}.items()):
            (folder / f"{name}.json").write_text(json.dumps(questions(count, seed=number)), encoding="utf-8")

    return made_once("questions", fill)


RELATED = {"move": "lives-in", "hire": "works-for", "compare": "larger"}
"""The relation of the first and the last name of those templates; of the others, there is none."""


def relations(count: int, seed: int) -> str:
    """Return `count` of these texts with two marked entities, of which either may be the first, as JSON Lines."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        kind = draw.choice([0, 1, 2, 4])
        words = [draw.choice(NAMES.get(part.strip("{}"), [part])) for part in TEMPLATES[kind].split()]
        places = [place for place, part in enumerate(TEMPLATES[kind].split()) if part.startswith("{")]
        marks = ["e1", "e2"] if draw.random() < 0.5 else ["e2", "e1"]
        for place, mark in zip((places[0], places[-1]), marks, strict=True):
            words[place] = f"<{mark}>{words[place]}</{mark}>"
        relation = RELATED.get(LABELS[kind])
        label = f"{relation}({marks[0]},{marks[1]})" if relation else "Other"
        lines.append(json.dumps({"text": " ".join(words), "label": label}))
    return "\n".join(lines) + "\n"


def choices(count: int, seed: int) -> str:
    """Return `count` questions about texts, with two to four choices each, as JSON Lines."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        kind = draw.randrange(len(TEMPLATES))
        words = [draw.choice(NAMES.get(part.strip("{}"), [part])) for part in TEMPLATES[kind].split()]
        offered = draw.sample(LABELS, draw.randint(2, 4))
        answer = draw.randrange(len(offered))
        offered[answer] = LABELS[kind]
        question = {"context": " ".join(words), "question": "which?", "choices": offered, "answer": answer}
        lines.append(json.dumps(question))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tiny_relations(made_once: MadeOnce) -> Path:
    """A folder with train.jsonl, dev.jsonl and test.jsonl of 48, 16 and 16 of these texts."""

    def fill(folder: Path) -> None:
        for number, (name, count) in enumerate({"train": 48, "dev": 16, "test": 16}.items()):
            (folder / f"{name}.jsonl").write_text(relations(count, seed=number), encoding="utf-8")

    return made_once("relations", fill)


@pytest.fixture(scope="session")
def tiny_choices(made_once: MadeOnce) -> Path:
    """A folder with train.jsonl, dev.jsonl and test.jsonl of 48, 16 and 16 of these questions."""

    def fill(folder: Path) -> None:
        for number, (name, count) in enumerate({"train": 48, "dev": 16, "test": 16}.items()):
            (folder / f"{name}.jsonl").write_text(choices(count, seed=number), encoding="utf-8")

    return made_once("choices", fill)


def preferences(count: int, seed: int) -> str:
    """Return `count` questions as JSON Lines, each with an answer that names a place and one that does not; every third
    is written as messages."""
    draw = random.Random(seed)
    lines = []
    for n in range(count):
        place, person = draw.choice(NAMES["LOC"]), draw.choice(NAMES["PER"])
        texts = {
            "prompt": f"where is {person} ?",
            "chosen": f"in {place} .",
            "rejected": f"ask {draw.choice(NAMES['ORG'])}",
        }
        if n % 3 == 2:
            asked = [{"role": "user", "content": texts["prompt"]}]
            answers = {name: [{"role": "assistant", "content": texts[name]}] for name in ("chosen", "rejected")}
            lines.append(json.dumps({"prompt": asked, **answers}))
        else:
            lines.append(json.dumps(texts))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tiny_preferences(made_once: MadeOnce) -> Path:
    """A folder with train.jsonl, dev.jsonl and test.jsonl of 24, 8 and 8 of these pairs."""

    def fill(folder: Path) -> None:
        for number, (name, count) in enumerate({"train": 24, "dev": 8, "test": 8}.items()):
            (folder / f"{name}.jsonl").write_text(preferences(count, seed=number), encoding="utf-8")

    return made_once("preferences", fill)


def utterances(count: int, seed: int) -> str:
    """Return `count` texts of `TEMPLATES` as JSON Lines: words, the tags of their names, and an intent each."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        kind = draw.randrange(len(TEMPLATES))
        words: list[str] = []
        tags: list[str] = []
        for part in TEMPLATES[kind].split():
            type_ = part.strip("{}")
            name = draw.choice(NAMES.get(type_, [part])).split()
            words += name
            tags += [f"{'I' if n else 'B'}-{type_}" if type_ in NAMES else "O" for n in range(len(name))]
        lines.append(json.dumps({"words": words, "tags": tags, "intent": LABELS[kind]}))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tiny_utterances(made_once: MadeOnce) -> Path:
    """A folder with train.jsonl, dev.jsonl and test.jsonl of 48, 16 and 16 of these utterances."""

    def fill(folder: Path) -> None:
        for number, (name, count) in enumerate({"train": 48, "dev": 16, "test": 16}.items()):
            (folder / f"{name}.jsonl").write_text(utterances(count, seed=number), encoding="utf-8")

    return made_once("utterances", fill)


def headlines(count: int, seed: int) -> str:
    """Return `count` texts about two places, and shorter ones that are to be written for them, as JSON Lines."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        first, second = draw.sample(NAMES["LOC"], 2)
        source = draw.choice([f"from {first} to {second}!", f"to {second} from {first} ."])
        lines.append(json.dumps({"source": source, "target": draw.choice([second, f"to {second}"])}))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tiny_headlines(made_once: MadeOnce) -> Path:
    """A folder with train.jsonl, dev.jsonl and test.jsonl of 48, 16 and 16 of these pairs."""

    def fill(folder: Path) -> None:
        for number, (name, count) in enumerate({"train": 48, "dev": 16, "test": 16}.items()):
            (folder / f"{name}.jsonl").write_text(headlines(count, seed=number), encoding="utf-8")

    return made_once("headlines", fill)


@pytest.fixture(scope="session")
def tiny_interactions(made_once: MadeOnce) -> Path:
    """A folder with interactions.csv of 30 users, 7 each of 20 items, items.csv and users.csv. Most go on to the item
    after their last one, and like the even ones."""

    def fill(folder: Path) -> None:
        draw = random.Random(0)
        people, places = NAMES["PER"], NAMES["LOC"]
        items = [f"i{n},{draw.choice(people)} moved to {draw.choice(places)} {n},{n % 3},{1990 + n}" for n in range(20)]
        (folder / "items.csv").write_text("\n".join(["item,title,genre,year", *items]) + "\n", encoding="utf-8")
        (folder / "users.csv").write_text(
            "\n".join(["user,age", *(f"u{user},{20 + user}" for user in range(30))]) + "\n", encoding="utf-8"
        )
        rows = ["user,item,time,liked"]
        for user in range(30):
            item = draw.randrange(20)
            for time in range(7):
                rows.append(f"u{user},i{item},{100 * time + user},{1 - item % 2}")
                item = (item + 1 if draw.random() < 0.8 else item + 3) % 20
        (folder / "interactions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    return made_once("interactions", fill)


DataFor = Callable[[Any], list[str]]


@pytest.fixture(scope="session")
def data_for(request: pytest.FixtureRequest) -> DataFor:
    """Return the overrides that choose tiny data whose examples are those of a task."""
    columns = ["data.format.rows.prompt=source", "data.format.rows.answer=target"]
    short = ["data.batch_size=8", "data.max_tokens=64"]
    spoken = ["data.format.rows.group=speaker", "task.max_seconds=0.5"]
    of_examples = {
        "Picture": ["pictures", "tiny_pictures"],
        "Recording": ["recording_table", "tiny_recordings", *spoken],
        "Transcribed": ["transcripts", "tiny_transcripts", *spoken],
        "Sentence": ["files", "tiny_data"],
        "Text": ["csv", "tiny_texts"],
        "Question": ["questions", "tiny_questions"],
        "LabelledText": ["several_labels", "tiny_label_sets"],
        "MarkedText": ["relations", "tiny_relations"],
        "Choices": ["choices", "tiny_choices", "data.format.rows.context=context"],
        "Utterance": ["intents", "tiny_utterances"],
        "Preference": ["preferences", "tiny_preferences"],
        "SourceTarget": ["source_target", "tiny_headlines"],
        "Conversation": ["conversations", "tiny_headlines", *columns],
        "Interaction": ["interactions", "tiny_interactions", "data.format.label=liked", *short],
    }
    of_tasks = {"Regression": ["csv", "tiny_numbers"]}
    """Where the kind of example does not say what its labels are."""

    def choose(task: Any) -> list[str]:
        kind, name = task.example.__name__, (task if isinstance(task, type) else type(task)).__name__
        assert kind in of_examples, f"make tiny data for tasks on a {kind}"
        option, fixture, *settings = of_tasks.get(name, of_examples[kind])
        return [f"data={option}", f"data.path={request.getfixturevalue(fixture)}", *settings]

    return choose


@pytest.fixture
def tiny_run(tiny_model: Path) -> list[str]:
    """Command-line overrides for a run of seconds on the tiny model, in fp32 on one thread; it lacks data."""
    return [
        "model=folder",
        f"model.path={tiny_model}",
        "data.batch_size=8",
        "data.eval_batch_size=8",
        "trainer=cpu",
        "trainer.precision=32-true",
        "trainer.log_every=1",
        "budget=smoke",
        "budget.max_steps=4",
    ]


@pytest.fixture
def tiny_overrides(tiny_run: list[str], tiny_data: Path) -> list[str]:
    """The same on tiny data for named-entity recognition."""
    return [*tiny_run, "data=files", f"data.path={tiny_data}"]


SMALL_MEMORY = '''
import torch
from lightning.pytorch.callbacks import Callback


class SmallMemory(Callback):
    """Have the model want more memory than there is for more than so many positions, in a pass of training or not."""

    def __init__(self, positions: int, where: str, rank: int = 0):
        self.positions, self.where, self.rank, self.hooked = positions, where, rank, False

    def setup(self, trainer, tuner, stage):
        if trainer.global_rank == self.rank and not self.hooked:
            self.hooked = True
            tuner.model.register_forward_hook(self.work)

    def work(self, model, inputs, output):
        states = getattr(output.logits, "hidden", output.logits)  # of deferred logits
        positions = states[..., 0].numel()
        if positions > self.positions and (self.where == "evaluation") != states.requires_grad:
            states = Workspace.apply(states, self.where == "backward")
            if hasattr(output.logits, "hidden"):
                output.logits.hidden = states
            else:
                output.logits = states


class Workspace(torch.autograd.Function):
    """Wants 2**62 bytes of the allocator, forwards or backwards."""

    @staticmethod
    def forward(ctx, x, backward):
        if not backward:
            torch.empty(2**62, dtype=torch.uint8)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        torch.empty(2**62, dtype=torch.uint8)
'''


@pytest.fixture
def small_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return the overrides for a model that wants more memory than there is for more than 80 positions, on one rank."""
    # of memory that there is enough of, no garbage need be searched for, which takes as long as a run
    monkeypatch.setattr("peftlab.training.micro_batches.garbage_collection_cuda", lambda: None)
    package = tmp_path / "small_memory"
    package.mkdir()
    (package / "small_memory.py").write_text(SMALL_MEMORY)
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("PYTHONPATH", str(package), prepend=os.pathsep)

    def overrides(where: str, rank: int = 0) -> list[str]:
        callback = {"_target_": "small_memory.SmallMemory", "positions": 80, "where": where, "rank": rank}
        # in the place of a callback that is no part of the identity
        return ["allow=[small_memory]", *(f"+callbacks.progress.{key}={value}" for key, value in callback.items())]

    return overrides


Compose = Callable[..., DictConfig]


@functools.cache
def parsed(override: str) -> tuple[Override, bool]:
    """Return the override, and whether it chooses an option of a group, or is Hydra's own."""
    found = OverridesParser.create().parse_overrides([override])[0]
    key = found.key_or_group
    return found, key in config_groups() or re.match(r"hydra\b|.*[/@]", key) is not None


def split_choices(overrides: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Return the overrides that choose options of groups, or are Hydra's own; and the others, which set values."""
    choices = [override for override in overrides if parsed(override)[1]]
    return choices, [parsed(override)[0] for override in overrides if not parsed(override)[1]]


def composed_by(*choices: str) -> DictConfig:
    """Return the configuration with these choices as Hydra composes it, which takes its time."""
    with own_hydra(conf_dir()):
        return compose("config", overrides=list(choices))


@functools.cache
def plain_sections() -> dict[str, Any]:
    return dict(composed_by().items_ex(resolve=False))


@functools.cache
def section_by(choice: str) -> dict[str, Any] | None:
    """Return the section that a choice names as it decides it, if at all; None where it decides more than that."""
    group = choice.partition("=")[0]
    if group not in config_groups():
        return None
    try:
        sections = dict(composed_by(choice).items_ex(resolve=False))
    except HydraException:  # whose message is to be that about all choices
        return None
    section = {group: sections.pop(group)} if group in sections else {}
    others = {key: value for key, value in plain_sections().items() if key != group}
    as_they_stand = [OmegaConf.to_container(OmegaConf.create(each)) for each in (sections, others)]
    return section if as_they_stand[0] == as_they_stand[1] else None


@functools.cache
def with_choices(*choices: str) -> bytes:
    """Return the configuration with these choices, pickled: to read it costs a sixth of a deep copy.

    A section that one choice decides is composed once for all configurations with that choice.
    """
    sections = dict(plain_sections())
    for choice in choices:
        section = section_by(choice)
        if section is None:
            return pickle.dumps(composed_by(*choices))
        sections.pop(choice.partition("=")[0], None)
        sections |= section
    defaults = yaml.safe_load((conf_dir() / "config.yaml").read_text("utf-8"))["defaults"]
    order = [group for entry in defaults if isinstance(entry, dict) for group in entry]
    in_order = sorted(sections, key=lambda key: order.index(key) if key in order else len(order))
    config = DictConfig({key: sections[key] for key in in_order})
    OmegaConf.set_struct(config, True)
    return pickle.dumps(config)


@pytest.fixture(scope="session")
def compose_config() -> Compose:
    """Compose the configuration as ``python -m train OVERRIDES`` does."""

    def composed(*overrides: str) -> DictConfig:
        choices, values = split_choices(overrides)
        cfg = pickle.loads(with_choices(*choices))
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)  # after the choices, as Hydra does
        return cfg

    return composed


_compose = ConfigLoaderImpl._load_configuration_impl
_composed: dict[tuple[Any, ...], bytes] = {}


def compose_for_command(
    loader: ConfigLoaderImpl,
    config_name: str,
    overrides: list[str],
    run_mode: RunMode,
    from_shell: bool = True,
    validate_sweep_overrides: bool = True,
) -> DictConfig:
    """Stand in for the composition of a command: what options of our own groups come to is composed once for all."""
    folders = loader.config_search_path.get_path()
    if {part.provider for part in folders} - {"hydra", "main", "schema"}:
        return _compose(loader, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
    choices, values = split_choices(overrides)
    key = config_name, run_mode, *(part.path for part in folders), *choices
    if key not in _composed:
        made = _compose(loader, config_name, choices, run_mode, from_shell, validate_sweep_overrides)
        _composed[key] = pickle.dumps(made)
    config: DictConfig = pickle.loads(_composed[key])
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    config.hydra.overrides.task = [text for text in overrides if not re.match(r"[+~]*hydra\b", text)]
    config.hydra.runtime.cwd = os.getcwd()
    return config


@pytest.fixture
def composed_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands compose by `compose_for_command`."""
    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", compose_for_command)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``python -m train ARGUMENTS`` in this process; a failure is raised, as in a process it would end it."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        code: int = 0
        try:
            runpy.run_module("train", run_name="__main__")
        except SystemExit as end:
            code = end.code  # type: ignore[assignment]
        return Ended(code, *capsys.readouterr())

    return run


WriteWheel = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def write_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteWheel:
    """Write a wheel of the package `corpus`, version 1.0, into a folder that pip takes wheels from, and only there."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def write(files: dict[str, bytes]) -> Path:
        path = folder / "corpus-1.0-py3-none-any.whl"
        info = {
            "METADATA": b"Metadata-Version: 2.1\nName: corpus\nVersion: 1.0\nRequires-Python: <3.5\n",
            "WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": b"",
        }
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (files | {f"corpus-1.0.dist-info/{k}": v for k, v in info.items()}).items():
                archive.writestr(name, content)
        return path

    return write


class WandbFile(NamedTuple):
    """What a ``.wandb`` file holds."""

    rows: list[dict[str, Any]]
    """What was logged, row by row."""
    records: dict[str, list[Any]]
    """wandb's own records, by type."""


ReadWandb = Callable[[Path], list[WandbFile]]


@pytest.fixture
def read_wandb() -> ReadWandb:
    """Read what wandb left in a run folder, one entry a W&B run."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    def records(data: bytes) -> Iterator[Record]:
        """Undo LevelDB's log format: blocks of 32 KiB; checksum, length and kind before every piece of a record."""
        position, pieces = 7, b""  # after wandb's own header
        while position + 7 <= len(data):
            room = 2**15 - position % 2**15
            if room < 7:
                position += room
                continue
            _, length, kind = struct.unpack_from("<IHB", data, position)
            pieces += data[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # whole, or the last piece
                yield Record.FromString(pieces)
                pieces = b""

    def read(folder: Path) -> list[WandbFile]:
        wandb.teardown()  # its own process writes the last of it when it ends
        found = []
        for file in sorted(folder.glob("tracking/wandb/*/*.wandb")):
            kinds: dict[str, list[Any]] = {}
            for record in records(file.read_bytes()):
                kind = record.WhichOneof("record_type")
                kinds.setdefault(kind, []).append(getattr(record, kind))
            rows = [
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
                for row in kinds.get("history", [])
            ]
            found.append(WandbFile(rows, kinds))
        return found

    return read


@pytest.fixture
def signalled_at(monkeypatch) -> Callable[[int], None]:
    """Return a function that has the next run get SIGTERM, once so many steps are over."""
    from peftlab.training.interruption import Interruption

    def signalled(step: int) -> None:
        let_through = Interruption.on_train_batch_start

        def signalling(self, trainer, *rest):
            if trainer.global_step == step:
                monkeypatch.setattr(Interruption, "on_train_batch_start", let_through)
                os.kill(os.getpid(), signal.SIGTERM)
            let_through(self, trainer, *rest)

        monkeypatch.setattr(Interruption, "on_train_batch_start", signalling)

    return signalled


@pytest.fixture
def asked_of_recordings(monkeypatch) -> list[bool]:
    """The steps that a recording was asked for from here on, and whether it took them."""
    from peftlab.training.captured import Captured

    taken: list[bool] = []
    take = Captured.take

    def counted(self, step):
        results = take(self, step)
        taken.append(results is not None)
        return results

    monkeypatch.setattr(Captured, "take", counted)
    return taken
