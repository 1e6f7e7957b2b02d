"""A training that begins with an adapter from elsewhere."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification

from peftlab import one_run
from peftlab.errors import ConfigError, UserError
from peftlab.use import finished as finished_run
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

ONE_STEP = ["budget.max_steps=1", "optimizer.lr=1e-12"]
LABELS = 7


@pytest.fixture
def theirs(tiny_model, tmp_path):
    """A folder with a LoRA that has been made with the peft library alone."""
    torch.manual_seed(5)
    model = AutoModelForTokenClassification.from_pretrained(tiny_model, num_labels=LABELS)
    config = peft.LoraConfig(r=3, lora_alpha=12, target_modules=["query", "value"], task_type="TOKEN_CLS")
    model = peft.get_peft_model(model, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "theirs")
    return model


OPTIONS = ["peft.r=3", "peft.lora_alpha=12", "peft.target=[query,value]", "adapter=theirs"]


def test_one_of_the_peft_library(run_tiny, theirs):
    record = run_tiny(*OPTIONS, *ONE_STEP, "run_dir=run")
    found, expected = (load_file(f"{folder}/adapter_model.safetensors") for folder in ("run/adapter", "theirs"))
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], tensor, atol=1e-9) for name, tensor in expected.items())
    run = load("run")
    batch = {"input_ids": torch.tensor([[2, 7, 8, 9, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    with torch.no_grad():
        torch.testing.assert_close(run.model(**batch).logits, theirs.eval()(**batch).logits)
    assert record.data["status"] == "completed"


def test_one_of_a_run_and_what_the_identity_says_of_it(run_tiny):
    first = run_tiny("budget.max_steps=8", "run_dir=first")
    second = run_tiny(*ONE_STEP, "adapter=first/adapter", "run_dir=second")
    found, expected = (load_file(f"{folder}/adapter/adapter_model.safetensors") for folder in ("second", "first"))
    assert all(torch.allclose(found[name], tensor, atol=1e-9) for name, tensor in expected.items())
    alone = run_tiny(*ONE_STEP, "run_dir=third")
    assert len({record.data["run_id"] for record in (first, second, alone)}) == 3
    Path("first/adapter").rename("moved")
    assert run_tiny(*ONE_STEP, "adapter=moved", "run_dir=fourth").data["run_id"] == second.data["run_id"]
    assert load("second").evaluate().equal  # it needs the adapter no more


def score(record):
    return next(m["value"] for m in record.data["metrics"] if (m["name"], m["split"]) == ("entity_f1", "test"))


OTHER_ORDER = "data.labels=[PER,ORG,LOC]"


@pytest.mark.parametrize("old", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_labels_in_another_order(run_tiny, finished, old):
    """Runs that were made before adapters kept their labels have them in their record."""
    shutil.copytree(finished.folder, "first")
    labels = Path("first/adapter/labels.json")
    assert json.loads(labels.read_text()) == finished.data["data"]["labels"]
    assert "adapter/labels.json" in {file["path"] for file in finished.data["files"]}
    if old:
        labels.unlink()
    record = run_tiny(*ONE_STEP, "adapter=first/adapter", OTHER_ORDER, "run_dir=second")
    assert record.data["data"]["labels"][1] == "B-PER"
    assert score(record) == score(finished) > 0.2


def test_a_label_more(run_tiny, finished, caplog):
    caplog.set_level(logging.INFO, logger="peftlab")
    options = [*ONE_STEP, f"adapter={finished.folder}/adapter", "data.labels=[MISC,PER,ORG,LOC]"]
    run_tiny(*options, "run_dir=second")
    told = "adapter: its head has no rows for these labels, which begin anew: B-MISC, I-MISC"
    assert [message for message in caplog.messages if message.startswith("adapter:")] == [told]


def test_an_exported_run_is_a_model_with_labels(run_tiny, finished, caplog):
    Path("elsewhere").mkdir()
    Path("plain").symlink_to("elsewhere")
    load(finished.folder).export("plain")
    assert Path("plain").is_symlink()
    assert Path("elsewhere/README.md").is_file()
    caplog.set_level(logging.INFO, logger="peftlab")
    record = run_tiny(*ONE_STEP, "model.path=plain", "peft=head", OTHER_ORDER, "run_dir=second")
    assert score(record) == score(finished)
    assert not any(message.startswith("model:") for message in caplog.messages)
    run_tiny(*ONE_STEP, "model.path=plain", "peft=head", "data.labels=[X,PER,ORG,LOC]", "run_dir=third")
    told = "model: its head has no rows for these labels, which begin anew: B-X, I-X"
    assert told in caplog.messages
    caplog.clear()
    load("third").predict(["Paris"])  # whose head is all its own
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda weights: weights.write_bytes(weights.read_bytes()[:-100]), ""),
        (lambda weights: weights.write_bytes(b""), ""),
        (lambda weights: weights.write_bytes(b"\xff" * 64), ""),
        (lambda weights: save_file({"x": torch.ones(2)}, weights), "tensors are only in the file or only in the model"),
        (lambda weights: edit(weights.parents[1] / "config.yaml", "  r: 16", "  r: 3"), "has shape"),
    ],
    ids=["cut", "empty", "garbage", "another", "rank"],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_a_damaged_one_of_a_finished_run_is_told(finished, tmp_path, monkeypatch, damage, reason, sealed):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    damage(folder / "adapter" / "adapter_model.safetensors")
    told = "it was changed after the run"
    if sealed:  # with new digests, that is
        monkeypatch.setattr(finished_run, "check_unchanged", lambda *_: None)
        told = f"adapter is damaged, or not that of this run's config.yaml: .*{reason}"
    with pytest.raises(UserError, match=told):
        load(folder).predict(["Paris"])


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_resumed_run_wants_the_adapter_that_it_began_with(run_tiny, theirs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(one_run, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_tiny(*OPTIONS, "run_dir=run")
    config = Path("theirs/adapter_config.json")
    text = config.read_text()
    config.write_text(text + " ")
    with pytest.raises(ConfigError, match="it has changed since this run began with it"):
        one_run.resume(Path("run"))
    config.write_text(text)
    assert one_run.resume(Path("run")).data["status"] == "completed"


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapter={_target_: x}"], r"adapter = .*: expected a folder"),
        (["adapter=nothing"], r"adapter = '.*nothing': there is no such folder"),
        (["adapter=package"], r"no adapter can be read there"),
        (["adapter=theirs", "peft=ia3"], "it is of the method LORA, and peft=ia3 is IA3"),
        (["adapter=theirs", "peft=bitfit"], "it is of the method LORA, and this is peft=bitfit"),
        (["adapter=theirs"], r"trained with other options; set peft.lora_alpha=12 peft.r=3$"),
        (["adapter=theirs", "peft.lora_alpha=12", "peft.r=3"], r"do not fit peft=lora .*only in the model"),
        ([*OPTIONS, "peft.init_lora_weights=pissa"], "set peft.init_lora_weights=true"),
    ],
)
def test_what_does_not_fit(run_tiny, theirs, overrides, message):
    Path("package").mkdir()
    with pytest.raises(ConfigError, match=message):
        run_tiny(*overrides, "run_dir=run")
    assert not Path("run").exists()


def test_pickled_weights_are_not_read(run_tiny, theirs):
    Path("theirs/adapter_model.safetensors").rename("theirs/adapter_model.bin")
    with pytest.raises(ConfigError, match=r"there is no adapter_model\.safetensors"):
        run_tiny(*OPTIONS, "run_dir=run")
    assert json.loads(Path("theirs/adapter_config.json").read_text())["r"] == 3
