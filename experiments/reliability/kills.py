"""Runs that are killed, stopped or find a damaged checkpoint, and go on: do they end as if nothing had been?

python experiments/reliability/kills.py [HOW_MANY] [TOPIC ...]

Topics, of which all but the last five are done by default, each with its own line of counts at the end:

    sigkill   HOW_MANY runs get SIGKILL at a random time and the same command again: every file of bits is the same?
    sigterm   half as many get SIGTERM: out within 5 s with 143, no step lost, and the same bits in the end?
    saves     five times as many processes get SIGKILL while they write checkpoints: is any file torn?
    damaged   half as many newest checkpoints are truncated or get a bit flipped: is the one before used, and why said?
    late      as sigterm, in the second half of runs with loader workers, where one loop ends and another begins
    regularised    as sigkill, with averaged weights, sharpness-aware steps, adversarial passes and augmented texts
    packed    as sigkill, of a decoder on rows that conversations share, with texts written in every validation
    indexed   as sigkill, on JSON lines and Parquet of which no example is held in memory
    real      +experiment=ner_lora budget=smoke, once: the same as its uninterrupted twin?

The runs train the tests' tiny BERT, in turn fully, with LoRA, and with LoRA, accumulation and loader workers. All is
drawn from one seed. Trials are forked from this process, which has done no tensor operation; exit code 1 if any fails.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from forked import start  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from tests.tiny_models import make_language_model  # noqa: E402

from conftest import make_data, make_model  # noqa: E402  # it sets the number of threads, before torch is there
from peftlab.composing.compose import compose  # noqa: E402
from peftlab.data import indexed_examples  # noqa: E402
from peftlab.data.columns import Columns  # noqa: E402
from peftlab.one_run import run  # noqa: E402
from peftlab.runs.record import RunRecord  # noqa: E402
from peftlab.storage import checkpoints, trees  # noqa: E402

TINY = ["model=folder", "data=files", "data.batch_size=8", "run_dir=run"]
TINY += ["trainer=cpu", "trainer.precision=32-true", "trainer.log_every=1", "trainer.checkpoint_every=3"]
TINY += ["budget=smoke", "budget.max_steps=40", "callbacks=[early_stopping]", "model.dropout=0.1"]
WITH_WORKERS = "lora, accumulation, workers"
VARIANTS = {
    "full": ["peft=full"],
    "lora": ["peft=lora"],
    WITH_WORKERS: ["peft=lora", "trainer.accumulate=2", "data.workers=2"],
}
REGULARISED = "lora, regularised"
AUGMENTED = ["augment=[typo,swap,delete]", "data.max_tokens=64"]  # augmented texts may be as long as that
INDEXED = {
    f"lora, {kind}": ["peft=lora", "data=word_rows", "data.workers=1"] for kind in ("indexed lines", "indexed tables")
}
PACKED = "lora, packed"
WRITING = ["task=causal_lm", "task.generate.at=always", "task.generate.max_new_tokens=8", "task.selection.metric=loss"]
WRITING += ["data=conversations", "data.max_tokens=96", "data.bucket_batches=1", "trainer.accumulate=2"]
ALL_VARIANTS = VARIANTS | INDEXED | {PACKED: ["peft=lora", "peft.lora_dropout=0.1", *WRITING]}
ALL_VARIANTS |= {REGULARISED: ["peft=lora", "regularizer=[ema,sam,freelb]", *AUGMENTED]}
REAL = ["+experiment=ner_lora", "budget=smoke", "logger=[csv]", "trainer.checkpoint_every=3", "run_dir=run"]
OF_ENCODERS = {"data=files", "model.dropout=0.1"}
BITS = ("metrics.csv", "checkpoints/*", "predictions/*", "adapter/*", "tables/*/*")


class Process:
    """A forked process in a folder of its own, which does `work`; what it says goes to ``said.txt`` there."""

    def __init__(self, folder: Path, work: Callable[[], object]) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.began = time.monotonic()

        def within() -> None:
            os.chdir(folder)
            work()

        self.number = start(within, folder / "said.txt")

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if os.waitid(os.P_PID, self.number, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            os.kill(self.number, number)

    def end(self) -> int:
        """Wait for the end; return the exit code, negative for a signal."""
        _, status = os.waitpid(self.number, 0)
        self.seconds = time.monotonic() - self.began
        return os.waitstatus_to_exitcode(status)

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text()


class Trials:
    """The runs of one script: their configurations, and how each is when nothing disturbs it."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self._known: dict[str, tuple[DictConfig, dict[str, Any], float]] = {}
        self._count = 0
        for name, make in {"model": make_model, "data": make_data}.items():
            assert Process(folder / name, lambda make=make: make(Path())).end() == 0
        for variant in INDEXED:
            tables = Process(self.data_of(variant), lambda variant=variant: write_rows(folder / "data", variant))
            assert tables.end() == 0, tables.said
            (tables.folder / "said.txt").unlink()

    def data_of(self, variant: str) -> Path:
        return self.folder / (variant.rpartition(" ")[2] if variant in {*INDEXED, PACKED} else "data")

    def model_of(self, variant: str) -> Path:
        return self.folder / ("language_model" if variant == PACKED else "model")

    def new_folder(self) -> Path:
        self._count += 1
        return self.folder / str(self._count)

    def known(self, variant: str) -> tuple[DictConfig, dict[str, Any], float]:
        """Return the configuration of a variant, what it leaves, and how many seconds it takes."""
        if variant not in self._known:
            here = [f"model.path={self.model_of(variant)}", f"data.path={self.data_of(variant)}"]
            left_out = {"data=files"} if variant in INDEXED else OF_ENCODERS if variant == PACKED else set()
            tiny = [override for override in TINY if override not in left_out]
            config = compose(*(REAL if variant == "real" else tiny + here + ALL_VARIANTS[variant]))
            whole = Process(self.new_folder(), lambda: run(config))
            assert whole.end() == 0, whole.said
            self._known[variant] = config, left(whole.folder), whole.seconds
        return self._known[variant]

    def goes_on(self, variant: str, folder: Path, step: int | None = None, saying: str = "") -> bool:
        """Give the command again, and return whether all that it leaves is the same.

        Args:
            variant: of the run.
            folder: in which it has been begun.
            step: the run must go on from.
            saying: what it must say.
        """
        config, expected, _ = self.known(variant)
        again = Process(folder, lambda: run(config))
        same = again.end() == 0 and left(folder) == expected and saying in again.said
        if step is not None:
            same = same and RunRecord.load(folder / "run").resumed_at == step
        if same:
            shutil.rmtree(folder)
        else:
            print(f"DIFFERS: {variant}, see {folder}", flush=True)
        return same


def write_rows(conll: Path, variant: str) -> None:
    """Write the sentences of CoNLL files as rows, in JSON lines or Parquet, into the current folder."""
    import pyarrow
    from pyarrow import parquet

    for name in ("train", "dev", "test"):
        (sentences,) = Columns().read({name: conll / f"{name}.txt"}).values()
        rows = [{"tokens": each.words, "ner_tags": each.tags} for each in sentences]
        if "lines" in variant:
            Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        else:
            parquet.write_table(pyarrow.Table.from_pylist(rows), f"{name}.parquet", row_group_size=10)


def write_conversations() -> None:
    """Write questions and answers of several lengths as JSON lines into the current folder."""
    draw = random.Random(0)
    for name, count in {"train": 32, "dev": 8, "test": 8}.items():
        places = [draw.choice(["rome", "paris", "the river"]) for _ in range(count)]
        rows = [
            {"prompt": " ".join(["what is the name of", place] * draw.randint(1, 3)), "answer": f"it is {place}"}
            for place in places
        ]
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def left(folder: Path) -> dict[str, Any]:
    """Return what a run leaves that must not depend on what happened to it."""
    files = {str(file.relative_to(folder)): file.read_bytes() for bits in BITS for file in folder.glob(f"run/{bits}")}
    record = json.loads((folder / "run" / "record.json").read_text())
    return files | {key: record[key] for key in ("status", "metrics", "selection")} | {"steps": record["cost"]["steps"]}


def in_turn(variants: dict[str, Any], how_many: int) -> Iterator[str]:
    names = list(variants)
    return (names[number % len(names)] for number in range(how_many))


def sigkill(trials: Trials, how_many: int, variants: Any = VARIANTS) -> tuple[int, str]:
    same = resumed = 0
    for variant in in_turn(variants, how_many):
        config, _, seconds = trials.known(variant)
        code = 0
        while code != -signal.SIGKILL:  # it may have ended before
            killed = Process(trials.new_folder(), lambda config=config: run(config))
            time.sleep(trials.random.uniform(0, seconds))
            killed.send(signal.SIGKILL)
            code = killed.end()
        resumed += checkpoints.newest_whole(killed.folder / "run" / "checkpoints") is not None
        same += trials.goes_on(variant, killed.folder)
    return how_many - same, f"{same}/{how_many} end with the same bits, {resumed} of them from a checkpoint"


def regularised(trials: Trials, how_many: int) -> tuple[int, str]:
    return sigkill(trials, how_many, {REGULARISED: None})


def packed(trials: Trials, how_many: int) -> tuple[int, str]:
    for folder, make in (
        (trials.model_of(PACKED), lambda: make_language_model("llama", Path())),
        (trials.data_of(PACKED), write_conversations),
    ):
        assert Process(folder, make).end() == 0
    return sigkill(trials, how_many, {PACKED: None})


def indexed(trials: Trials, how_many: int) -> tuple[int, str]:
    held, indexed_examples.HELD = indexed_examples.HELD, 0  # the runs are forked from this process
    try:
        return sigkill(trials, how_many, INDEXED)
    finally:
        indexed_examples.HELD = held


def sigterm(trials: Trials, how_many: int, variants: Any = VARIANTS, earliest: float = 0.0) -> tuple[int, str]:
    done = with_checkpoint = 0
    slowest = 0.0
    for variant in in_turn(variants, how_many):
        config, _, seconds = trials.known(variant)
        code = 0
        while code == 0:
            stopped = Process(trials.new_folder(), lambda config=config: run(config))
            while not (stopped.folder / "run" / "record.json").exists():
                time.sleep(0.01)
            gone = time.monotonic() - stopped.began
            time.sleep(max(0.0, trials.random.uniform(max(gone, earliest * seconds), seconds) - gone))
            stopped.send(signal.SIGTERM)
            sent = time.monotonic()
            code = stopped.end()
        waited = time.monotonic() - sent
        slowest = max(slowest, waited)
        newest = checkpoints.newest_whole(stopped.folder / "run" / "checkpoints")
        steps = checkpoints.step_of(newest) if newest else 0
        with_checkpoint += newest is not None
        record = json.loads((stopped.folder / "run" / "record.json").read_text())
        orderly = code == 143 and waited < 5 and record["status"] == "interrupted"
        nothing_lost = record["cost"]["steps"] == steps
        if not (orderly and nothing_lost):
            kept = f"{steps} of {record['cost']['steps']} steps"
            print(f"NOT IN ORDER: {variant}: {code}, {waited:.1f} s, {kept}, {record['error']}")
        done += orderly and nothing_lost and trials.goes_on(variant, stopped.folder)
    text = (
        f"{done}/{how_many} out with 143, no step lost, and the same bits; {with_checkpoint} of them with a checkpoint"
    )
    return how_many - done, f"{text}; the slowest took {slowest:.2f} s"


def late(trials: Trials, how_many: int) -> tuple[int, str]:
    return sigterm(trials, how_many, {WITH_WORKERS: None}, earliest=0.45)


def saves(trials: Trials, how_many: int) -> tuple[int, str]:
    torn = written = unfinished = 0
    for number in range(how_many):
        folder = trials.new_folder()
        before = os.environ.get("TMPDIR")
        if number % 2:  # where a file cannot be put in place in one step
            os.environ["TMPDIR"] = "/dev/shm"
        saving = Process(folder, write_without_end)
        if before is None:
            os.environ.pop("TMPDIR", None)
        while not (folder / "step-1.safetensors.sha256").exists():
            time.sleep(0.002)
        time.sleep(trials.random.uniform(0, 0.1))
        saving.send(signal.SIGKILL)
        assert saving.end() == -signal.SIGKILL, saving.said
        there = checkpoints.files(folder)
        torn += sum(not readable(path) for path in there) + (checkpoints.newest_whole(folder) is None)
        written += len(there)
        unfinished += any(folder.glob(".step-*"))
        shutil.rmtree(folder)
    return (
        torn,
        f"{torn} torn files of {written} in {how_many} kills, {unfinished} of them while a file was being written",
    )


def write_without_end() -> None:
    import torch

    for step in range(1, 1_000_000):
        trees.write({"step": step, "weights": torch.full((500_000,), float(step))}, checkpoints.path_of(Path(), step))
        checkpoints.prune(Path(), checkpoints.LAST, None)


def readable(path: Path) -> bool:
    """Return whether all of the file is there; without a digest it may be whole nevertheless."""
    from safetensors import SafetensorError

    try:
        step = trees.read(path)["step"]
    except (SafetensorError, OSError, ValueError):
        return False
    digest = path.with_name(f"{path.name}.sha256")
    return step == checkpoints.step_of(path) and (not digest.exists() or checkpoints.damage_of(path) is None)


def damaged(trials: Trials, how_many: int) -> tuple[int, str]:
    fell_back = 0
    kept: dict[str, Path] = {}
    for number, variant in enumerate(in_turn(VARIANTS, how_many)):
        if variant not in kept:
            kept[variant] = killed_after(trials, variant, steps=12)
        folder = trials.new_folder()
        shutil.copytree(kept[variant], folder)
        there = checkpoints.files(folder / "run" / "checkpoints")
        newest, before = [path for path in there if checkpoints.damage_of(path) is None][:2]
        content = bytearray(newest.read_bytes())
        place = trials.random.randrange(len(content))
        if number % 2:
            del content[place:]
        else:
            content[place] ^= 1 << trials.random.randrange(8)
        newest.write_bytes(content)
        reason = checkpoints.damage_of(newest)
        said = f"{newest.name} is damaged and passed over: {reason}"
        fell_back += trials.goes_on(variant, folder, checkpoints.step_of(before), said)
    return (
        how_many - fell_back,
        f"{fell_back}/{how_many} fall back to the one before, say so, and end with the same bits",
    )


def killed_after(trials: Trials, variant: str, steps: int) -> Path:
    """Return the folder of a run that has been killed when the checkpoint after `steps` was there."""
    config, *_ = trials.known(variant)
    process = Process(trials.new_folder(), lambda: run(config))
    while not (process.folder / "run" / "checkpoints" / f"step-{steps}.safetensors.sha256").exists():
        time.sleep(0.001)
    process.send(signal.SIGKILL)
    process.end()
    return process.folder


def real(trials: Trials, _: int) -> tuple[int, str]:
    folder = killed_after(trials, "real", steps=9)
    same = trials.goes_on("real", folder)
    return not same, f"killed after step 9, {'the same bits as' if same else 'DIFFERENT from'} its uninterrupted twin"


TOPICS: dict[str, tuple[Callable[[Trials, int], tuple[int, str]], float]] = {
    "sigkill": (sigkill, 1),
    "sigterm": (sigterm, 0.5),
    "saves": (saves, 5),
    "damaged": (damaged, 0.5),
    "late": (late, 0.5),
    "regularised": (regularised, 1),
    "packed": (packed, 1),
    "indexed": (indexed, 1),
    "real": (real, 1),
}
"""What does it, and how many for one of HOW_MANY."""

USUAL = ("sigkill", "sigterm", "saves", "damaged")
"""Without a choice."""


def main() -> int:
    how_many = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    chosen = sys.argv[2:] or USUAL
    wrong = 0
    logging.getLogger("peftlab").setLevel(logging.ERROR)  # of this process; a run sets its own
    trials = Trials(Path(tempfile.mkdtemp(prefix="kills-")))
    for name in chosen:
        topic, share = TOPICS[name]
        began = time.monotonic()
        failures, text = topic(trials, max(1, round(how_many * share)))
        wrong += failures
        print(f"{name}: {text} ({time.monotonic() - began:.0f} s)", flush=True)
    if not wrong:
        shutil.rmtree(trials.folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
