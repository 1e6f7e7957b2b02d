"""A folder of runs that follow from each other."""

from __future__ import annotations

import json
import os

import pytest
import torch

from peftlab.chains import chain as chains
from peftlab.chains.chain import Chain, read_chain
from peftlab.composing.compose import compose
from peftlab.errors import ConfigError, UserError
from peftlab.runs.record import RunRecord

SETTINGS = {"rounds": 2, "query": "random"}


@pytest.fixture
def config(tiny_overrides):
    return lambda *more: compose(*tiny_overrides, "budget.max_steps=1", "logger=[]", *more)


@pytest.mark.slow
def test_it_goes_on_where_it_stopped_and_a_finished_stage_is_not_run_again(config, tmp_path, monkeypatch):
    state = torch.get_rng_state()
    with Chain(tmp_path / "loop", "active", SETTINGS) as chain:
        first = chain.run("round-0", config())
        chain.note("round-0", chosen=["train:1", "train:2"])
    assert torch.equal(state, torch.get_rng_state())
    asked = []
    monkeypatch.setattr(chains, "run", lambda plain, command: asked.append(plain))
    with Chain(tmp_path / "loop", "active", SETTINGS) as chain:
        assert chain.run("round-0", config()).data == first.data
        assert chain.stage("round-1") is None
        chain.note("round-0", chosen=["train:1", "train:2"])
        with pytest.raises(UserError, match="chosen of stage round-0 was another"):
            chain.note("round-0", chosen=["train:3"])
    assert not asked
    (stage,) = read_chain(tmp_path / "loop")["stages"]
    assert stage == {
        "name": "round-0",
        "folder": "round-0",
        "run": first.data["run_id"],
        "identity": first.data["identity"]["sha256"],
        "chosen": ["train:1", "train:2"],
    }
    assert RunRecord.load(tmp_path / "loop/round-0").data["environment"]["threads"] == torch.get_num_threads()


def test_a_stage_that_has_begun_is_gone_on_with_by_the_threads_of_the_chain(tmp_path, monkeypatch):
    def interrupted(plain, command):
        configs.append(plain)
        raise KeyboardInterrupt

    configs: list[dict] = []
    monkeypatch.setattr(chains, "run", interrupted)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with Chain(tmp_path / "loop", "active", SETTINGS) as chain, pytest.raises(KeyboardInterrupt):
        chain.run("round-0", {"trainer": {}})
    document = json.loads((tmp_path / "loop/chain.json").read_text())
    (tmp_path / "loop/chain.json").write_text(json.dumps({**document, "threads": 7}))
    with Chain(tmp_path / "loop", "active", SETTINGS) as chain:
        for trainer in ({}, {"threads": 3}):
            with pytest.raises(KeyboardInterrupt):
                chain.run("round-0", {"trainer": trainer})
    assert [config["trainer"]["threads"] for config in configs] == [document["threads"], 7, 3]
    assert {config["run_dir"] for config in configs} == {str(tmp_path / "loop/round-0")}


def test_no_secret_is_written(tmp_path):
    def settings(*overrides):
        return {"overrides": ["logger=wandb", *overrides]}

    typed = settings("+logger.wandb.api_key=Xq7vLm2p")
    with Chain(tmp_path / "loop", "active", typed):
        pass
    file = tmp_path / "loop/chain.json"
    assert "Xq7vLm2p" not in file.read_text()
    assert read_chain(tmp_path / "loop")["settings"] == settings("+logger.wandb.api_key=****")
    file.write_text(file.read_text().replace("****", "Xq7vLm2p"))  # as an older version wrote it
    with Chain(tmp_path / "loop", "active", typed):
        pass
    assert "Xq7vLm2p" not in file.read_text()
    with pytest.raises(ConfigError, match="was begun with other settings"):
        Chain(tmp_path / "loop", "active", settings())


def test_another_chain_that_was_begun_meanwhile_is_not_gone_on_with(tmp_path, monkeypatch):
    def late(folder, kind):
        monkeypatch.setattr(chains, "lock", lock)
        Chain(folder, kind, {**SETTINGS, "rounds": 3}).__exit__(None, None, None)
        return lock(folder, kind)

    lock = chains.lock
    monkeypatch.setattr(chains, "lock", late)
    with pytest.raises(ConfigError, match=r"other settings \(rounds=3, now 2\)"):
        Chain(tmp_path / "loop", "active", SETTINGS)


def test_a_chain_repeats_nothing_that_later_runs_follow_from(tmp_path):
    with Chain(tmp_path, "active", SETTINGS) as chain, pytest.raises(ConfigError, match="existing=rerun: active keeps"):
        chain.run("round-0", {"existing": "rerun"})


@pytest.mark.slow
def test_what_is_refused(config, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    with pytest.raises(ConfigError, match="there is something else in it"):
        Chain(tmp_path / "other", "active", SETTINGS)
    folder = tmp_path / "loop"
    with Chain(folder, "active", SETTINGS) as chain:
        chain.stages.append({"name": "a", "folder": "a", "run": "0", "identity": "0"})
        if (child := os.fork()) == 0:  # a lock is a process's
            try:
                Chain(folder, "active", SETTINGS)
            except ConfigError as error:
                os._exit(0 if "is writing this active" in str(error) else 2)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(ConfigError, match=r"other settings \(rounds=2, now 3\)"):
        Chain(folder, "active", SETTINGS | {"rounds": 3})
    with pytest.raises(ConfigError, match="holds a chain of kind 'active'"):
        Chain(folder, "stream", SETTINGS)
    with Chain(folder, "active", SETTINGS) as chain:
        record = chain.run("a", config())
        chain.stages[0]["identity"] = "0"
        with pytest.raises(UserError, match=r"is not the run that chain.json names"):
            chain.run("a", config())
    assert record.data["status"] == "completed"
    (folder / "chain.json").write_text('{"schema_version": 2}')
    with pytest.raises(UserError, match="not of a form that this version reads"):
        Chain(folder, "active", SETTINGS)
    with pytest.raises(UserError, match="but a run"):
        read_chain(folder / "a")
