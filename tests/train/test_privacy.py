"""Small private runs: what they record, that they resume bit for bit, and what they refuse."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peftlab.errors import ConfigError
from peftlab.one_run import prepare
from peftlab.privacy.clipping import generator_of
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.terminal.signals import Interrupted
from peftlab.use.check import check
from peftlab.use.compression.slicing import cut
from peftlab.use.ensembles.averaging import average
from peftlab.use.finished import load

pytest.importorskip("opacus")

PRIVATE = ["privacy=dp", "data.labels=[LOC,ORG,PER]", "budget.max_steps=12", "trainer.checkpoint_every=3"]


def weights(record: RunRecord) -> dict[str, torch.Tensor]:
    return load_file(record.folder / "checkpoints" / "best.safetensors")


@pytest.fixture(scope="module")
def private(run_tiny, tmp_path_factory):
    """A finished private run; tests only read it."""
    return run_tiny(*PRIVATE, f"run_dir={tmp_path_factory.mktemp('private') / 'run'}")


@pytest.mark.slow
def test_what_is_cut_out_is_not_chosen_by_its_training_examples(private):
    run = load(private.folder)
    for how in ({"drop_layers": 1}, {"prune_ffn": 0.5}):
        with pytest.raises(ConfigError, match="its training was private, and what is cut out is chosen by training ex"):
            cut(run, **how)


@pytest.mark.slow
def test_it_is_averaged_as_any_run(private):
    run = load(private.folder)
    twice = average([run, run], temperature=1.0)
    assert twice.evaluate().equal
    assert twice.record.score("test", "entity_f1") == run.record.score("test", "entity_f1")


@pytest.mark.slow
def test_the_record_states_the_guarantee_and_how_it_was_reached(private):
    section = private.data["privacy"]
    assert 7.9 < section["epsilon"] <= 8
    assert section["delta"] == pytest.approx(48**-1.1)
    assert section["sample_rate"] == pytest.approx(8 / 48)
    assert (section["steps"], section["steps_taken"], section["units"]) == (12, 12, 48)
    assert section["gradients"] == "hooks"
    assert section["disagreement"] <= 1e-5
    assert 0 < section["clipped"] <= 1
    assert section["weights_moved"] is True
    assert section["accountant"].startswith("PRV, opacus ")
    assert any("key_file" in line for line in section["not_covered"])
    config = RunFolder(private).read_config()
    assert config["privacy"]["noise_multiplier"] == section["noise_multiplier"]


@pytest.mark.slow
def test_the_run_check_finds_nothing_wrong(private):
    assert check(RunFolder(private)).causes == []


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(run_tiny, users_callbacks, private):
    signalled = users_callbacks("Signal", number=int(signal.SIGTERM), hook="on_train_batch_end", step=7)
    signalled = [override.replace("callbacks.users", "callbacks.progress") for override in signalled]
    with pytest.raises(Interrupted):
        run_tiny(*PRIVATE, "run_dir=parts", *signalled)
    resumed = run_tiny(*PRIVATE, "run_dir=parts")
    assert Path("parts/trail.jsonl").read_bytes() == (private.folder / "trail.jsonl").read_bytes()
    assert all(torch.equal(own, weights(private)[name]) for name, own in weights(resumed).items())
    assert resumed.data["privacy"] == private.data["privacy"]


@pytest.mark.exhaustive
def test_divided_steps_are_the_same_steps(run_tiny, monkeypatch):
    plain = [*PRIVATE, "model.dropout=0", "model.attention_dropout=0", "model.head_dropout=0"]
    whole = run_tiny(*plain, "run_dir=whole")
    monkeypatch.setattr("peftlab.training.private._NUMBERS", 1)  # one example at a time
    divided = run_tiny(*plain, "trainer.accumulate=3", "run_dir=divided")
    for name, own in weights(divided).items():
        torch.testing.assert_close(own, weights(whole)[name], rtol=0, atol=2e-3)
    assert divided.data["privacy"]["clipped"] == whole.data["privacy"]["clipped"]


@pytest.mark.exhaustive
def test_groups_terms_of_regularisers_and_empty_steps(run_tiny, tiny_texts, tmp_path):
    """Five groups, of which more than a third of all steps have none."""
    for file in tiny_texts.glob("*.csv"):
        rows = file.read_text().splitlines()
        (tmp_path / file.name).write_text("\n".join([f"{rows[0]},who", *(f"{row},{len(row) % 5}" for row in rows[1:])]))
    texts = ["task=classification", "data=csv", f"data.path={tmp_path}", "data.format.group=who"]
    texts += ["data.labels=[move,hire,report,nothing,compare]", "data.duplicates=keep"]
    private = ["privacy=dp", "privacy.unit=group", "privacy.epsilon=null", "privacy.noise_multiplier=0.3"]
    private += ["regularizer=[rdrop]", "trainer.accumulate=2", "budget.max_steps=12"]
    section = run_tiny(*texts, *private).data
    assert section["privacy"]["units"] == 5
    assert section["privacy"]["gradients"] == "one by one"
    assert section["privacy"]["clipped"] > 0
    assert section["regularizers"]["rdrop"]["term"] != 0  # told with noise
    assert section["cost"]["steps"] == 12


REFUSED = {
    "data.batch_tokens=64": "batch_tokens",
    "peft=eva": "looks at the training examples",
    "regularizer=[sam]": "from several",
    "regularizer=[mixup]": "other examples",
    "augment=[mention]": "parts of other examples",
    "augment=[context]": "parts of other examples",
    "trainer.devices=2": "add noise",
    "task.class_weights=balanced": "counts the training examples",
    "trainer.on_nan=skip_batch": "depend on the examples",
    "budget.overfit_batches=1": "by the others",
    "callbacks.early_stopping.monitor=train/loss": "no private value",
    "privacy.unit=group": "names no group",
    "privacy.unit=client": "no clients that train in rounds",
    "data.labels=null": "data.labels=[LOC,ORG,PER]",
    "privacy.noise_multiplier=0.1": "more than",
}


@pytest.mark.slow
def test_what_spends_privacy_uncounted_is_refused(compose_config, tiny_overrides):
    for override, reason in REFUSED.items():
        composed = compose_config(*tiny_overrides, *PRIVATE[:-1], override)
        with pytest.raises(ConfigError, match="privacy") as refused:
            prepare(composed)
        assert reason in str(refused.value), override


@pytest.mark.slow
def test_the_key_decides_noise_and_batches_and_stays_out_of_the_record(
    compose_config, tiny_overrides, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    plain = prepare(compose_config(*tiny_overrides, *PRIVATE))
    keyed = prepare(compose_config(*tiny_overrides, *PRIVATE, f"privacy.key_file={key}"))
    assert plain.identity["sha256"] != keyed.identity["sha256"]
    assert list(plain.data.plan_of()) != list(keyed.data.plan_of())
    assert keyed.config["privacy"]["key_sha256"] not in (None, key.read_bytes().hex())
    relative = prepare(compose_config(*tiny_overrides, *PRIVATE, "privacy.key_file=key"))
    assert relative.config["privacy"] == keyed.config["privacy"]  # so that it is found from elsewhere
    assert relative.identity == keyed.identity
    key.write_bytes(bytes(3))
    with pytest.raises(ConfigError, match="can be guessed"):
        prepare(compose_config(*tiny_overrides, *PRIVATE, f"privacy.key_file={key}"))


@pytest.mark.slow
def test_two_trainings_of_one_seed_share_neither_noise_nor_batches(compose_config, tiny_overrides):
    one, other = (prepare(compose_config(*tiny_overrides, *PRIVATE, f"optimizer.lr={lr}")) for lr in (0.01, 0.02))
    assert one.spec.seed == other.spec.seed
    assert list(one.data.plan_of()) != list(other.data.plan_of())
    noises = [generator_of(each.spec.privacy.secret(each.identity["sha256"]), 0).random() for each in (one, other)]
    assert noises[0] != noises[1]


def test_without_privacy_nothing_is_in_identity_or_record(compose_config, tiny_overrides):
    ready = prepare(compose_config(*tiny_overrides))
    assert ready.config["privacy"] is None
    assert ready.guarantee is None
    assert ready.data.poisson is None
