"""A regulariser of the user's own is one file and one YAML in a folder of theirs."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import peftlab
from peftlab.runs.record import RunRecord

pytestmark = pytest.mark.slow

TWICE = '''
from typing import ClassVar

import torch

from peftlab.regularizers.regularizer import Computed, Term, spec


@spec
class Twice(Term):
    """Runs the model on the words in the opposite order of tokens, which is to be predicted alike."""

    strength: float = 0.5
    passes: ClassVar[int] = 1

    def losses(self, computed: Computed) -> torch.Tensor:
        batch = computed.batch
        lengths, width = batch.inputs["attention_mask"].sum(-1, keepdim=True), batch.inputs["input_ids"].shape[1]
        positions = (lengths - 1 - torch.arange(width)).clamp(min=0)  # padding has no part in it
        flipped = computed.model(**batch.inputs, position_ids=positions)
        return self.strength * computed.task.divergences(computed.outputs, flipped, batch)
'''

FGM = '''
from typing import ClassVar

import torch

from peftlab.regularizers.embeddings import Ball, changed, perturbed_positions
from peftlab.regularizers.regularizer import Computed, Term, spec


@spec
class Mine(Term):
    """Adds the loss at the embeddings that a step along its gradient makes worst (Miyato et al. 2017)."""

    norm: float = 1.0
    passes: ClassVar[int] = 2
    from_embeddings: ClassVar[bool] = True

    def losses(self, computed: Computed) -> torch.Tensor:
        batch, task, seen = computed.batch, computed.task, []

        def watch(embeddings):
            seen.append(embeddings.detach().requires_grad_())
            return seen[0]

        with changed(computed.model, watch):
            loss = task.losses(computed.forward(batch), batch).sum()
        (gradient,) = torch.autograd.grad(loss, seen)
        ball = Ball(self.norm)
        step = self.norm * ball.steepest(gradient * perturbed_positions(batch), batch)
        assert torch.allclose(ball.norms(step, batch), torch.tensor(self.norm))
        with changed(computed.model, lambda embeddings: embeddings + step):
            return task.losses(computed.forward(batch), batch)
'''

YAML = """# @package regularizer.{name}
_target_: my_package.{name}.{cls}
{option}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a project with the two regularisers."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    options = tmp_path / "my_conf" / "regularizer"
    options.mkdir(parents=True)
    for name, cls, code, option in (("twice", "Twice", TWICE, "strength: 0.5"), ("mine", "Mine", FGM, "norm: 1.0")):
        (tmp_path / "my_package" / f"{name}.py").write_text(code)
        (options / f"{name}.yaml").write_text(YAML.format(name=name, cls=cls, option=option))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as python -m does
    monkeypatch.setattr(sys, "modules", dict(sys.modules))  # my_package of this test only
    return tmp_path


EXACT = ["model.dropout=0", "model.attention_dropout=0", "optimizer=sgd", "optimizer.lr=0.1", "budget.max_steps=6"]


@pytest.fixture
def train(folder, command, tiny_overrides):
    def run(*overrides: str) -> RunRecord:
        ended = command("--config-dir", "my_conf", "allow=[my_package]", *tiny_overrides, *EXACT, *overrides)
        assert ended.code == 0, ended.err
        (where,) = [override.partition("=")[2] for override in overrides if override.startswith("run_dir=")]
        return RunRecord.load(Path(where))

    return run


def best(record: RunRecord) -> dict[str, torch.Tensor]:
    return load_file(record.folder / "checkpoints" / "best.safetensors")


@pytest.mark.parametrize("task", ["ner", "classification"])
def test_both_are_trained_with_and_logged(train, tiny_texts, task):
    data = [] if task == "ner" else ["task=classification", "data=csv", f"data.path={tiny_texts}"]
    record = train(*data, "regularizer=[twice,mine]", "run_dir=run")
    with (record.folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    for row in rows:
        assert 0 < float(row["train/mine"]) < float(row["train/loss"])
        assert 0 < float(row["train/twice"]) < float(row["train/loss"])
    assert set(json.loads((record.folder / "record.json").read_text())["identity"]) >= {"config_sha256"}
    assert peftlab.load(record.folder, allow=["my_package"]).predict(["Ada Lovelace moved"])


def test_neither_parts_nor_pieces_change_what_is_learnt(train, small_memory):
    chosen = "regularizer=[twice,mine]"
    whole = best(train(chosen, "run_dir=whole"))
    plain = best(train("run_dir=plain"))
    assert any(not torch.allclose(whole[name], plain[name], rtol=1e-3, atol=1e-4) for name in whole)
    pieces = ["callbacks=[]", "trainer.accumulate=2"]
    pieces += [override.replace("[small_memory]", "[small_memory,my_package]") for override in small_memory("backward")]
    divided = train(chosen, *pieces, "run_dir=divided")
    assert [event for event in divided.data["history"] if event["event"] == "out of memory"]
    for key, weight in best(divided).items():
        torch.testing.assert_close(weight, whole[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["regularizer=[mine]", "trainer.compile=true"],
            "regularizer.mine: changes what the model computes on the way, and compiled",
        ),
        (
            ["regularizer=[mine]", "peft=head", "trainer.cache_activations=true"],
            "regularizer.mine changes the embeddings",
        ),
        (["regularizer=[mine]", "regularizer.mine.nrm=2"], "Did you mean 'regularizer.mine.norm'?"),
        (["regularizer=[rdrop]", "regularizer.rdrop.strength=-1"], "regularizer.rdrop.strength"),
        (["regularizer=[rdrop]"], "regularizer.rdrop would do nothing: no dropout is active in this model"),
        (["regularizer=[focal,pgd]"], "focal (1) and pgd (0.5) replace more than all of the task's loss"),
        (["regularizer=[mixup]", "trainer.accumulate=2"], "regularizer.mixup: compares the examples of a batch"),
        (
            ["regularizer=[mixout]", "trainer.gradient_checkpointing=true"],
            "activations would be computed again without it",
        ),
        (["+regularizer.loss._target_=my_package.mine.Mine"], "train/loss is logged already"),
        (["regularizer=[sam]", "+regularizer.again._target_=peftlab.regularizers.sam.Sam"], "choose one of them"),
    ],
)
def test_what_cannot_act_is_refused(folder, command, tiny_overrides, overrides, told):
    ended = command("--config-dir", "my_conf", "allow=[my_package]", *tiny_overrides, *EXACT, *overrides)
    assert ended.code == 2
    assert told in ended.err


def test_what_has_no_effect_is_told(folder, command, tiny_overrides):
    overrides = ["regularizer=[fgm,vat]", "regularizer.fgm.share=0", "regularizer.vat.start_step=99"]
    ended = command(*tiny_overrides, *EXACT, *overrides, "run_dir=run")
    assert "no effect: regularizer.fgm: share=0 leaves it out" in ended.out + ended.err
    assert "no effect: regularizer.vat.start_step=99: the run has 6 steps" in ended.out + ended.err


def test_what_did_nothing_ends_the_run(train, folder, command, tiny_overrides):
    (folder / "my_package" / "mine.py").write_text(
        FGM.replace("embeddings + step", "embeddings").replace("return task", "return 0 * task")
    )
    overrides = ["--config-dir", "my_conf", "allow=[my_package]", *tiny_overrides, *EXACT, "run_dir=run"]
    ended = command(*overrides, "regularizer=[mine]")
    assert ended.code == 2
    assert "regularizer.mine: it did nothing in step 1: term is 0" in ended.err


def test_what_is_not_finite_is_found_though_finding_it_takes_gradients(folder, command, tiny_overrides):
    (folder / "my_package" / "mine.py").write_text(
        FGM.replace("return task.losses(comp", "return 1e40 * task.losses(comp")
    )
    ended = command(
        "--config-dir", "my_conf", "allow=[my_package]", *tiny_overrides, *EXACT, "regularizer=[mine]", "run_dir=run"
    )
    assert ended.code == 1
    assert "error: step 1: the loss is not finite" in ended.err
