"""Every method and regulariser of ``conf/`` on a GPU: its tensors are all there, and its kernels deterministic."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from tests.regularizer_files import REGULARIZERS, refer, teach

from peftlab.composing.compose import conf_dir
from peftlab.one_run import run
from peftlab.training.trail import read

METHODS = sorted(path.stem for path in (conf_dir() / "peft").glob("*.yaml"))
DRAWS = {"pvera"}
"""Methods that draw random numbers while they train, others on each device."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here"),
]


@pytest.fixture
def losses(compose_config, tiny_overrides, made_once, tmp_path):
    """Return the losses of a short run with further overrides: of the steps in its trail, and of validation."""

    def losses_of(*overrides: str) -> list[float]:
        short = ["budget.max_steps=8", "budget.test=false", "callbacks=[]", "logger=[]"]
        short += ["task.selection.metric=loss", "task.selection.mode=min"]
        cfg = compose_config(*tiny_overrides, *short, *overrides)
        refer(cfg, tmp_path, partial(made_once, "teacher on a GPU", partial(teach, cfg)))
        record = run(cfg)
        trail = read(record.folder / "trail.jsonl")
        assert trail is not None
        values = [float(point["loss"]) for point in trail.points if point["loss"] is not None]
        return [*values, *(event["loss"] for event in record.data["history"] if event["event"] == "validated")]

    return losses_of


@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_what_it_learns_on_a_cpu(losses, method):
    same = [f"peft={method}", "model.dropout=0", "model.attention_dropout=0"]
    # of what an optimiser like Adam does with a gradient that is nearly zero, the sign is left to rounding
    same += ["optimizer=sgd", "optimizer.lr=0.05", "optimizer.algorithm.fused=false"]
    on_gpu = losses(*same, "trainer=gpu", "run_dir=gpu")
    assert all(map(math.isfinite, on_gpu))
    if method not in DRAWS:
        assert on_gpu == pytest.approx(losses(*same, "run_dir=cpu"), rel=1e-2)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_regularizer_acts(losses, regularizer, precision):
    options = ["peft=full", "optimizer.lr=1e-2", "model.dropout=0.1", f"regularizer=[{regularizer}]"]
    assert all(map(math.isfinite, losses(*options, "trainer=gpu", f"trainer.precision={precision}")))
