"""A change that should not change a result does not: small runs end with the bits that are pinned in ``pins.json``.

Bits depend on the processor and on torch, so pins are kept for one machine at a time. Before a change, on a machine of
another kind, pin what the code does as it stands:

    python -m pytest tests/gate -m slow --pin

Of each run are pinned its identity, at every point of its trail the step, the loss and a digest of all trained
tensors, its scores, and a digest of its predictions.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from peftlab.one_run import run
from peftlab.runs.record import RunRecord
from peftlab.terminal.signals import Interrupted

pytestmark = pytest.mark.slow

PINS = Path(__file__).with_name("pins.json")

NER, CLASSIFICATION = "ner", "classification"
NO_DROPOUT = ["model.dropout=0", "model.attention_dropout=0"]
RUNS: dict[str, tuple[str, list[str]]] = {
    "lora": (NER, []),
    "lora, classification": (CLASSIFICATION, []),
    "adalora": (NER, ["peft=adalora"]),
    "eva": (CLASSIFICATION, ["peft=eva"]),
    "full": (NER, ["peft=full"]),
    "prefix": (NER, ["peft=prefix_tuning"]),
    "houlsby": (CLASSIFICATION, ["peft=houlsby"]),
    "head, cached": (NER, ["peft=head", *NO_DROPOUT]),
    "accumulate": (NER, ["trainer.accumulate=2"]),
    "by tokens, two workers": (NER, ["data.batch_tokens=64", "data.workers=2"]),
    "label smoothing": (CLASSIFICATION, ["peft=ia3", "task.label_smoothing=0.1"]),
    "class weights": (NER, ["task.class_weights=balanced"]),
    "long sentences": (NER, ["data.max_tokens=8"]),
    "bf16": (NER, ["trainer.precision=bf16-mixed"]),
    "two ranks": (NER, ["trainer.devices=2"]),
}

Made = Callable[..., RunRecord]


@pytest.fixture
def made(compose_config: Callable[..., DictConfig], tiny_model: Path, tiny_data: Path, tiny_texts: Path) -> Made:
    """Train for three epochs on one thread a process, and return the record."""
    data = {NER: ["data=files", f"data.path={tiny_data}"], CLASSIFICATION: ["data=csv", f"data.path={tiny_texts}"]}

    def make(task: str, *overrides: str) -> RunRecord:
        given = [f"task={task}", *data[task], "model=folder", f"model.path={tiny_model}", "data.batch_size=8"]
        given += ["trainer=cpu", "trainer.precision=32-true", "trainer.threads=1", "trainer.trail_every=1"]
        given += ["logger=[]", "callbacks=[]", "budget.max_epochs=3", *overrides]
        return run(compose_config(*given), ["python", "-m", "train"], given)

    return make


@pytest.fixture
def signalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the overrides by which a run is asked to end in the middle of its second epoch."""
    (tmp_path / "signalling.py").write_text(
        "import os\n"
        "import lightning\n\n\n"
        "class Signal(lightning.Callback):\n"
        "    def on_train_batch_end(self, trainer, *_):\n"
        "        if trainer.global_step == 8:\n"
        f"            os.kill(os.getpid(), {int(signal.SIGTERM)})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    # in the place of a callback that is no part of the identity
    return ["allow=[signalling]", "+callbacks.progress._target_=signalling.Signal"]


def machine(record: RunRecord) -> str:
    environment = record.data["environment"]
    return f"{environment['cpu']}, {environment['isa']}, torch {torch.__version__}"


def left(record: RunRecord) -> dict[str, Any]:
    """Return what is pinned of a run."""
    _, *points = map(json.loads, (record.folder / "trail.jsonl").read_text().splitlines())
    return {
        "identity": record.data["identity"]["sha256"],
        "trail": [[point["step"], point["loss"], digest_of(point["hashes"])] for point in points],
        "scores": {f"{score['split']}/{score['name']}": score["value"] for score in record.data["metrics"]},
        "predictions": digest_of(path.read_text() for path in sorted(record.folder.glob("predictions/*"))),
    }


def digest_of(parts: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:12]


def check(name: str, record: RunRecord, pin: bool) -> None:
    """Hold a run against its pin, or pin it."""
    pins = json.loads(PINS.read_text())
    here, found = machine(record), left(record)
    if pin:
        runs = pins["runs"] if pins["machine"] == here else {}
        PINS.write_text(json.dumps({"machine": here, "runs": runs | {name: found}}, indent=1, sort_keys=True) + "\n")
        return
    if pins["machine"] != here:
        pytest.skip(f"pinned is what '{pins['machine']}' computes, and this is '{here}'; see the top of this file")
    expected = pins["runs"][name]
    for was, now in zip(expected["trail"], found["trail"], strict=False):
        assert now == was, f"{name}: the trainings part at step {was[0]}"
    assert found == expected


@pytest.mark.parametrize("name", RUNS)
def test_the_bits_are_those_that_are_pinned(made, pytestconfig, name):
    task, overrides = RUNS[name]
    check(name, made(task, *overrides), pytestconfig.getoption("--pin", default=False))


def test_a_resumed_run(made, signalled, pytestconfig):
    with pytest.raises(Interrupted):
        made(NER, *signalled)
    record = made(NER, *signalled)
    check("resumed", record, pytestconfig.getoption("--pin", default=False))
    assert record.resumed_at == 8


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_batch_in_pieces(made, small_memory, pytestconfig, where):
    record = made(NER, *small_memory(where))
    check(f"in pieces, {where}", record, pytestconfig.getoption("--pin", default=False))
    assert "out of memory" in {event["event"] for event in record.data["history"]}
