"""``peftlab compress`` on finished runs: every rung is a run, found again, and answers as the table says."""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from peftlab.errors import UserError
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use.check import check
from peftlab.use.compression import measuring
from peftlab.use.compression.ladder import compress
from peftlab.use.compression.steps import STEPS, parse
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture
def copy(finished) -> Path:
    """A copy of the finished LoRA run, whose test split has 16 sentences."""
    return Path(shutil.copytree(finished.folder, "copy"))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch) -> None:
    """Have few examples timed, and no garbage searched for, which takes a second."""
    monkeypatch.setattr(gc, "collect", lambda: 0)
    monkeypatch.setattr(measuring, "EXAMPLES", 4)
    monkeypatch.setattr(measuring, "ROUNDS", 1)


def test_a_ladder_down_to_eight_bits(peftlab, copy):
    options = ["--steps", "merge,merge,onnx,openvino,int8", "--max-drop", "1", "--out", "out", "--json"]
    code, out, err = peftlab("compress", copy, *options)
    assert code == 0, err
    document = json.loads(out)
    assert document == json.loads(Path("out/ladder.json").read_text())
    rungs = {rung["step"]: rung for rung in document["rungs"]}
    assert list(rungs) == ["original", "merge", "onnx", "openvino", "int8"]
    assert "merge was passed over: peft=merged adds nothing to the model that could be merged" in document["notes"]
    for step in ("original", "merge", "onnx", "openvino"):
        assert (rungs[step]["agreement"], rungs[step]["drop"]["value"]) == (1.0, 0.0)
        assert rungs[step]["verdict"] == "accepted"
    assert rungs["onnx"]["file"]["compared"]["largest_difference"] <= 1e-4
    assert rungs["onnx"]["measured"]["parameters"] == rungs["merge"]["measured"]["parameters"]
    assert rungs["int8"]["file"]["compared"]["largest_difference"] > 1e-4  # it has been rounded
    assert rungs["int8"]["smaller"] > 1.2 * rungs["onnx"]["smaller"]  # of so tiny a model the graph is the larger part
    assert Path("out/ladder.md").read_text().count("\n| ") == 2 + 5

    # each is an ordinary run
    onnx, merged = load(rungs["onnx"]["run"]), load(rungs["merge"]["run"])
    texts = [["EU", "rejects"], ["Peter"], ["a"] * 30]
    answers, expected = (
        [[(entity["type"], entity["start"]) for entity in one["entities"]] for one in of.predict(texts)]
        for of in (onnx, merged)
    )
    assert answers == expected
    ids = torch.randint(5, 40, (3, 11))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        assert torch.allclose(onnx.model(**inputs).logits, merged.model(**inputs).logits, atol=1e-4)
    assert onnx.evaluate().equal
    assert not check(RunFolder(RunRecord.load(rungs["int8"]["run"]))).causes
    with pytest.raises(UserError, match="cannot become one of transformers again"):
        onnx.export("plain")

    # what was made is not made again, nor timed again
    records = {path: path.stat().st_mtime_ns for path in Path("out").glob("*/*/record.json")}
    again = json.loads(peftlab("compress", copy, *options)[1])
    assert [rung["measured"] for rung in again["rungs"]] == [rung["measured"] for rung in document["rungs"]]
    assert records == {path: path.stat().st_mtime_ns for path in Path("out").glob("*/*/record.json")}


def test_the_ladder_ends_where_too_much_is_lost(copy):
    run, steps = load(copy), parse("merge,drop_layers=1")
    short = compress(run, steps, max_drop=-1.0, out=Path("out"))  # as if each had to be better by far
    assert [rung.verdict for rung in short.rungs] == ["accepted", "too much"]
    assert "the ladder ends with merge, which may lose up to 0.0000: not made: drop_layers=1" in short.notes[0]
    assert short.accepted.step == "original"
    whole = compress(run, steps, max_drop=-1.0, out=Path("out"), keep_going=True)
    assert [rung.step for rung in whole.rungs] == ["original", "merge", "drop_layers=1"]
    assert whole.rungs[1].measured == short.rungs[1].measured
    assert whole.smaller(whole.rungs[2]) > 1
    assert not whole.notes


def test_a_teacher_without_a_pupil_is_refused(peftlab, copy):
    code, out, err = peftlab("compress", copy, "--steps", "merge,int8", "--teacher", copy)
    assert (code, out) == (2, "")
    assert "it teaches the step distil, which --steps merge,int8 lacks" in err


def test_a_model_that_will_be_distilled_is_not_judged_before(copy, monkeypatch):
    monkeypatch.setitem(STEPS, "distil", replace(STEPS["distil"], make=lambda making: making.run))
    ladder = compress(load(copy), parse("drop_layers=1,distil"), max_drop=-1.0, out=Path("out"))
    assert [rung.verdict for rung in ladder.rungs] == ["accepted", "open", "too much"]


def test_a_method_that_cannot_be_merged_is_passed_over(run_once):
    ladder = compress(load(run_once("prefix", "peft=prefix_tuning", "budget.max_steps=6").folder), parse("merge"))
    assert [rung.step for rung in ladder.rungs] == ["original"]
    assert "peft=prefix_tuning cannot be merged into a plain model" in ladder.notes[0]


def test_a_writer_is_refused(finished_writer):
    with pytest.raises(UserError, match="predicts tokens of a vocabulary"):
        compress(load(finished_writer.folder), parse("merge,onnx"), max_drop=100.0, out=Path("out"))
