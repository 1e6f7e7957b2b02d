"""Streams: stages that start from each other, and what is forgotten on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from peftlab.continual.stream import learn
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord


@pytest.fixture
def stream(tiny_run, tiny_texts):
    overrides = [*tiny_run, "task=classification", "data=csv", f"data.path={tiny_texts}", "logger=[]", "peft.r=2"]
    return lambda *more: [*overrides, "budget.max_steps=2", *more]


CLASSES = ("stream=classes", "stream.stages=[[hire,move],{name: rest,labels:[nothing,report]}]")


def test_classes(stream, tmp_path):
    result = learn(stream(*CLASSES), tmp_path / "s")
    (walk,) = result.walks
    assert walk.stages == ("1", "rest")
    assert np.isnan(walk.matrix.values[0, 1])
    first, second = (RunRecord.load(tmp_path / "s" / run) for run in walk.runs)
    assert first.data["data"]["labels"] == ["hire", "move"]
    assert second.data["data"]["labels"] == ["hire", "move", "nothing", "report"]
    assert walk.matrix.values[1, 1] == second.score("test", "accuracy")
    config = RunFolder(second).read_config()
    assert config["adapter"]["path"] == str(tmp_path / "s" / walk.runs[0] / "adapter")
    assert config["data"]["subset"]["labels"] == ["nothing", "report"]
    assert {walk.contender for walk in result.controls} == {"joint (lora)", "nearest_mean"}
    before = (tmp_path / "s/chain.json").read_bytes()
    again = learn(stream(*CLASSES), tmp_path / "s")
    assert np.array_equal(again.walks[0].matrix.values, walk.matrix.values, equal_nan=True)
    assert (tmp_path / "s/chain.json").read_bytes() == before
