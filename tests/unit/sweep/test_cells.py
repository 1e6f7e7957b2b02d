"""From proposals to cells, with lookers that know everything."""

from __future__ import annotations

import json

import pytest

from peftlab.errors import ConfigError
from peftlab.sweep.cells import Cells, is_of_the_sweep
from peftlab.sweep.checked import Checked
from peftlab.sweep.plan import Proposal
from peftlab.sweep.worker import Fact, Machine

FIXED = ["+experiment=ner_lora", "sweep=search", "sweep.budget.trials=3", "sweep_dir=here", "budget=smoke"]


class Lookers:
    def __init__(self):
        self.asked, self.environment = [], {"CUDA_VISIBLE_DEVICES": "0"}

    def files(self):
        return {"data.txt": (1, 2, 3)}

    def facts(self, configs):
        return [self.fact(config) for config in configs]

    def fact(self, config):
        self.asked.append(config)
        if config["lr"] < 0:
            return ConfigError(f"lr = {config['lr']}: must be above 0")
        return Fact(f"{config['lr']} is its identity", "f1", "max", "pack")


def compose(overrides):
    given = dict(text.split("=", 1) for text in overrides)
    return {"lr": float(given.get("lr", 0.1)), "logger": {"wandb": {"project": "p"}}, "peft": {"rate": 1.0}}


@pytest.fixture
def looker():
    return Lookers()


@pytest.fixture
def cells(looker):
    return Cells(compose, FIXED, looker)


def test_a_cell_has_the_overrides_of_a_run_and_none_of_the_sweep(cells):
    cell = cells(Proposal(("lr=0.5",)))
    assert cell.overrides == ["+experiment=ner_lora", "budget=smoke", "lr=0.5"]
    assert (cell.sha256, cell.metric, cell.mode, cell.pack) == ("0.5 is its identity", "f1", "max", "pack")


def test_the_same_proposal_is_looked_at_once(cells, looker):
    assert cells(Proposal(("lr=0.5",))) is cells(Proposal(("lr=0.5",), {"phase": "search"}))
    assert len(looker.asked) == 1


def test_what_an_earlier_command_has_finished_is_not_checked_again(looker, tmp_path):
    def sweep(*rates):
        cells = Cells(compose, FIXED, looker, Checked(tmp_path / "0.json"))
        return cells, {rate: cells(Proposal((f"lr={rate}",))) for rate in rates}

    cells, first = sweep(0.1, 0.2)
    cells.keep_facts({first[0.2].run_id}, Machine([], 1))
    (group,) = json.loads((tmp_path / "0.json").read_text())["groups"]
    assert (group["files"], group["environment"]) == ({"data.txt": [1, 2, 3]}, looker.environment)

    content = json.loads((tmp_path / "0.json").read_text())
    content["groups"][0]["files"] = {}  # else they have changed
    (tmp_path / "0.json").write_text(json.dumps(content))
    looker.asked.clear()
    cells, second = sweep(0.1, 0.2, 0.3)
    assert [config["lr"] for config in looker.asked] == [0.2, 0.3]
    assert second[0.1] == first[0.1]
    cells.keep_facts({second[0.2].run_id, second[0.3].run_id}, Machine([], 2))  # not kept anew
    assert Checked(tmp_path / "0.json").machine == Machine([], 1)


def test_a_process_that_died_keeps_nothing(looker, cells, tmp_path, monkeypatch):
    cells = Cells(compose, FIXED, looker, Checked(tmp_path / "0.json"))
    cell = cells(Proposal(("lr=0.1",)))

    def dies():
        raise RuntimeError("the process that checks trials has died")

    monkeypatch.setattr(looker, "files", dies)
    assert cell.run_id
    cells.keep_facts((), Machine([], 1))
    assert not (tmp_path / "0.json").exists()


def test_all_cells_that_cannot_be_run_are_told_together(cells):
    proposals = [Proposal((f"lr={rate}",)) for rate in (0.1, -1, -1.0, -2)]
    with pytest.raises(ConfigError) as told:
        cells.checked(proposals)
    assert str(told.value) == (
        "3 of 4 trials cannot be run, and none was started:"
        "\n  lr = -1.0: must be above 0\n    lr=-1\n    lr=-1.0\n  lr = -2.0: must be above 0\n    lr=-2"
    )
    assert [cell.overrides[-1] for cell in cells.checked(proposals[:1])] == ["lr=0.1"]


def test_cells_that_are_the_same_run_are_told_together(cells):
    proposals = [Proposal((f"lr={text}",)) for text in ("0.1", "0.2", "1e-1", "2e-1", "0.3")]
    with pytest.raises(ConfigError, match=r"one and the same run.*\n  lr=0.1 and lr=1e-1\n  lr=0.2 and lr=2e-1$"):
        cells.checked(proposals)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["+experiment=ner_lora", "budget=smoke", "lr=0.5"], ("lr=0.5",)),
        (["lr=0.5", "budget=smoke", "+experiment=ner_lora"], ("lr=0.5",)),
        (["+experiment=ner_lora", "budget=smoke"], ()),
        (["+experiment=ner_lora", "budget=full", "lr=0.5"], None),  # of another sweep
        (["lr=0.5"], None),
    ],
)
def test_a_recorded_run_is_known_by_what_all_trials_share(cells, overrides, expected):
    found = cells.proposal_of(overrides)
    assert (None if found is None else found.overrides) == expected


def test_a_value_of_the_configuration_can_be_asked_for(cells):
    assert cells.default_of("peft.rate", []) == 1.0
    with pytest.raises(ConfigError, match=r"no key 'peft\.rank'"):
        cells.default_of("peft.rank", ["peft=lora"])


def test_the_settings_of_a_logger_are_those_of_the_trials(cells):
    assert cells.settings("logger.wandb") is None  # nothing has been composed
    cells(Proposal(()))
    assert cells.settings("logger.wandb") == {"project": "p"}
    assert cells.settings("logger.mlflow") is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sweep=search", True),
        ("+sweep.space.x=1", True),
        ("sweep_dir=x", True),
        ("hydra.launcher.trials_at_once=2", True),
        ("hydra/launcher=ray", True),
        ("existing=rerun", True),
        ("peft=lora", False),
        ("~callbacks.progress", False),
        ("trainer.threads=1", False),
    ],
)
def test_what_says_how_a_sweep_is_done_is_no_part_of_a_trial(override, expected):
    assert is_of_the_sweep(override) is expected
