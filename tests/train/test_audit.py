"""``peftlab audit`` on runs that have learnt by heart, and on those that have learnt nothing."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from pydoc import locate

import numpy as np
import pytest

from peftlab import load
from peftlab.composing.compose import conf_dir
from peftlab.reading import plain_yaml
from peftlab.runs.folder import AUDIT
from peftlab.runs.record import RunRecord
from peftlab.use.auditing.losses import losses_of
from peftlab.use.examples import data_of

pytestmark = pytest.mark.slow

SEVERAL = ["budget=full", "budget.half=0", "task=classification", "callbacks=[]", "data=csv"]
LENGTH = ["budget.max_epochs=20", "budget.validate_every=20"]  # the last checkpoint: validation knows nothing here
WORDS = (
    "Curie",
    "Lovelace",
    "Noether",
    "Turing",
    "Paris",
    "Warsaw",
    "Rome",
    "Unesco",
    "Acme",
    "moved",
    "hired",
    "read",
)


@pytest.fixture(scope="session")
def by_heart(made_once) -> Path:
    """A folder with 160 texts that tell nothing about their labels: these can only be learnt by heart."""

    def fill(folder: Path) -> None:
        draw = random.Random(0)
        for name, count in {"train": 160, "dev": 12, "test": 30}.items():
            rows = [f"{' '.join(draw.choices(WORDS, k=8))},{draw.choice('ab')}" for _ in range(count)]
            (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")

    return made_once("by_heart", fill)


@pytest.fixture(scope="session")
def run_on(run_once, by_heart):
    """Return the run on half of them at a learning rate, all weights; tests only read it."""

    def run(rate: float) -> RunRecord:
        data = [*SEVERAL, f"data.path={by_heart}", "peft=full", f"optimizer.lr={rate}"]
        return run_once(f"by_heart_{rate}", *data, "budget.max_steps=null", *LENGTH)

    return run


@pytest.fixture
def learnt(run_on, capsys) -> RunRecord:
    """A copy of one that has learnt them by heart."""
    copy = shutil.copytree(run_on(2e-3).folder, "learnt")
    capsys.readouterr()
    return RunRecord.load(Path(copy))


@pytest.fixture
def unlearnt(run_on, capsys) -> RunRecord:
    """A copy of one that has learnt nothing."""
    copy = shutil.copytree(run_on(1e-9).folder, "unlearnt")
    capsys.readouterr()
    return RunRecord.load(Path(copy))


@pytest.mark.exhaustive
def test_what_is_learnt_by_heart_is_found_and_what_is_not_is_not(learnt, unlearnt, peftlab):
    before = {path: path.read_bytes() for path in learnt.folder.rglob("*") if path.is_file()}
    code, out, error = peftlab("audit", learnt.folder, "--reference", unlearnt.folder, "--json")
    assert code == 0, error
    found = json.loads(out)
    assert json.loads((learnt.folder / AUDIT).read_text()) == [found]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert found["source"] == "rest"
    assert found["members"] == found["others"] > 60
    (attack,) = found["attacks"]  # the reference has seen the same examples
    assert attack["name"] == "loss"
    assert attack["auc"]["low"] > 0.6
    assert found["left_out"].keys() == {"reference", "lira"}
    assert found["epsilon"] > 0
    assert found["verdict"] == "no claim"
    assert not any(control["auc"]["low"] > 0.5 for control in found["controls"])

    nothing = load(unlearnt.folder).audit()
    assert nothing.attacks[0].auc.low <= 0.5 <= nothing.attacks[0].auc.high
    assert nothing.epsilon == 0

    code, out, _ = peftlab("audit", unlearnt.folder, "--nonmembers", "test")
    assert code == 0
    assert "30 training examples, 30 others: of the test split" in out
    assert "mind: the others are the test split, and not left out by chance" in out
    assert out.splitlines()[-1].endswith("claimed: none: no claim")


@pytest.mark.exhaustive
def test_shadow_models_are_trained_once_and_find_more(learnt, peftlab):
    run = learnt
    first, again = (json.loads(peftlab("audit", run.folder, "--shadows", "6", "--json")[1]) for _ in range(2))
    shadows = sorted(Path(f"sweeps/audit-{run.data['run_id']}").iterdir())
    assert len(shadows) == 6
    assert {RunRecord.load(path).data["status"] for path in shadows} == {"completed"}
    assert {**first, "at": ""} == {**again, "at": ""}
    areas = {(one["of"], one["name"]): one["auc"] for one in first["attacks"]}
    assert areas.keys() == {
        *(("run", name) for name in ("loss", "reference", "lira_offline", "lira_online")),
        *(("recipe", name) for name in ("loss", "lira_offline", "lira_online")),
    }
    assert all(area["low"] > 0.5 for area in areas.values()), areas
    assert areas["run", "lira_online"]["value"] > areas["run", "loss"]["value"] - 0.05
    assert first["left_out"] == {}
    assert {one["name"] for one in first["controls"]} == {"length", "words", "unseen"}


def test_a_claim_that_attacks_contradict_is_called_so(learnt, peftlab):
    learnt.data["privacy"] = {"epsilon": 0.01, "delta": 1e-5}
    learnt.write()
    code, out, _ = peftlab("audit", learnt.folder)
    assert code == 0
    assert out.splitlines()[-1].endswith("at delta 1e-05; claimed: 0.01: contradicted")
    assert "Leave it out" in peftlab("audit", learnt.folder, "--delta", "1e-6")[2]


def test_too_few_examples_are_refused(finished, peftlab):
    code, _, error = peftlab("audit", finished.folder, "--nonmembers", "rest")
    assert code == 2
    assert "there are 48, and 0 of rest. Train on a half to keep the other, budget.half=0" in error
    assert "this is the run itself" in peftlab("audit", finished.folder, "--reference", finished.folder)[2]
    assert "an even number from 6 on" in peftlab("audit", finished.folder, "--shadows", "5")[2]


TASKS = sorted(path.stem for path in (conf_dir() / "task").glob("*.yaml"))
MODELS = {"image_classification": "vit", "causal_lm": "llama", "dpo": "llama", "prompt": "llama", "seq2seq": "t5"}
MODELS |= dict.fromkeys(("audio_classification", "speech_recognition"), "whisper")


@pytest.mark.one_in(5, "exhaustive")
@pytest.mark.parametrize("name", TASKS)
def test_losses_of_every_task_are_those_of_the_run(name, run_tiny, data_for, language_model):
    task = locate(plain_yaml.load((conf_dir() / "task" / f"{name}.yaml").read_text())["_target_"])
    options = [f"task={name}", *data_for(task), "budget.max_steps=2"]
    if name in MODELS:
        options.append(f"model.path={language_model(MODELS[name])}")
    run = load(run_tiny(*options).folder)
    data = data_of(run, ["validation"])
    members = data.splits["validation"]
    losses, tokens = losses_of(run, members.examples)
    weights = data.task.weights(members.examples, members.encoded, range(members.rows))
    assert (tokens > 0).all()
    assert (np.isfinite(losses) == (weights > 0)).all()
    recorded = run.record.score("validation", "loss")
    assert np.nansum(losses * weights) / weights.sum() == pytest.approx(recorded, rel=1e-4)
