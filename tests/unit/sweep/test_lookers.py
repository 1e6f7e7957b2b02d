"""How the cells of a sweep are shared out among the processes that check them: these are scripted."""

from __future__ import annotations

import multiprocessing
from typing import ClassVar

import pytest

from peftlab.errors import ConfigError
from peftlab.sweep import lookers as module
from peftlab.sweep.lookers import Lookers
from peftlab.sweep.worker import Fact


class Looker:
    """Answers at once; dies of a cell whose seed says so, unless it is the first."""

    made: ClassVar[list[Looker]] = []

    def __init__(self, environment, output):
        self.ours, self.theirs = multiprocessing.Pipe()
        self.number, self.checked, self.shares = len(self.made), [], []
        self.made.append(self)

    def send(self, name, config):
        self.checked.append(config)
        self.theirs.send(None)
        return self.ours

    def receive(self):
        self.ours.recv()
        config = self.checked[-1]
        if config["seed"] == "fatal" or (config["seed"] == "too much" and self.number):
            raise RuntimeError("the process that checks trials has died")
        if config["seed"] == "wrong":
            raise ConfigError("seed: must be a number")
        return Fact(f"{config}", "f1", "max")

    def ask(self, name, *arguments):
        if name == "among":
            self.shares += arguments
            return 100
        return {f"{self.number}.txt": (1, 2, 3), "shared.txt": (1, 2, 3)}

    def close(self):
        self.ours.close()


@pytest.fixture
def made(monkeypatch):
    """The processes; there is memory for nine more of them."""
    monkeypatch.setattr(Looker, "made", [])
    monkeypatch.setattr(module, "Looker", Looker)
    monkeypatch.setattr(module, "free_memory", lambda: 1800)
    return Looker.made


def cells(models: int, *seeds: object) -> list[dict]:
    return [{"peft": model, "seed": seed} for seed in seeds for model in range(models)]


def test_answers_come_in_order_and_a_model_is_left_to_one_process(made, tmp_path):
    configs = cells(20, 1, "wrong", 2)
    answers = Lookers({}, tmp_path, cores=3).facts(configs)
    for config, answer in zip(configs, answers, strict=True):
        if config["seed"] == "wrong":
            assert str(answer) == "seed: must be a number"
        else:
            assert answer == Fact(f"{config}", "f1", "max")
    assert [len(looker.shares) > 0 for looker in made] == [True] * 3
    assert {looker.shares[-1] for looker in made} == {3}
    for model in range(20):
        (one,) = [looker for looker in made if any(config["peft"] == model for config in looker.checked)]
        assert [config["seed"] for config in one.checked if config["peft"] == model] == [1, "wrong", 2]
    assert sum(len(looker.checked) for looker in made) == len(configs)


@pytest.mark.parametrize(
    ("models", "cores", "memory", "expected"),
    [(20, 8, 1800, 4), (20, 2, 1800, 2), (20, 1, 1800, 1), (20, 8, 450, 3), (20, 8, 0, 1), (6, 8, 1800, 1)],
)
def test_there_are_as_many_as_cores_memory_and_models_allow(
    made, tmp_path, monkeypatch, models, cores, memory, expected
):
    monkeypatch.setattr(module, "free_memory", lambda: memory)
    lookers = Lookers({}, tmp_path, cores)
    assert lookers.facts([]) == []
    lookers.facts(cells(models, 1))
    assert len(made) == expected
    lookers.facts(cells(models, 2))
    assert len(made) <= max(expected, 4)
    assert lookers.files() == {f"{n}.txt": (1, 2, 3) for n in range(len(made))} | {"shared.txt": (1, 2, 3)}


def test_what_a_process_has_died_of_is_left_to_others(made, tmp_path):
    configs = cells(20, 1)
    configs[7]["seed"] = "too much"
    lookers = Lookers({}, tmp_path, cores=4)
    assert [answer.sha256 for answer in lookers.facts(configs)] == [f"{config}" for config in configs]
    assert configs[7] in made[0].checked
    assert lookers.files() is None or configs[7] not in [one for looker in made[1:] for one in looker.checked]


def test_the_death_of_the_first_is_an_error(made, tmp_path):
    with pytest.raises(RuntimeError, match="has died"):
        Lookers({}, tmp_path, cores=1).facts(cells(2, "fatal"))
