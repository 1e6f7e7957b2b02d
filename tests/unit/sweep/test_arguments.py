"""A sweep's command as Hydra and the sweeper take it: composed by Hydra itself, nothing looked at and nothing run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from peftlab.composing.compose import conf_dir, explain_composition
from peftlab.composing.composer import Composer
from peftlab.composing.hydra_gate import composing_only
from peftlab.errors import ConfigError, UserError
from peftlab.sweep.arguments import as_typed, command, for_hydra, refuse_what_each_run_is_given
from peftlab.sweep.cells import Cells
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.ledger import Cell
from peftlab.sweep.plan import Proposal
from peftlab.sweep.space import Space, grid
from peftlab.sweep.spec import SweepSpec, sweep_spec
from peftlab.sweep.sweep import accelerators, check_scores, check_section, default_under, folder_of
from peftlab.sweep.worker import Fact

CLASSIFY = "task=classification"


@pytest.fixture(autouse=True)
def _as_the_command_does() -> Iterator[None]:
    with composing_only():
        yield


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("a=1 -m b=2,3", "-m a=1 b=2,3"),
        ("a=1 b=2,3 --multirun", "--multirun a=1 b=2,3"),
        ("a=1 --config-dir my_conf b=2", "--config-dir my_conf a=1 b=2"),
        ("a=1 --config-dir=my_conf b=2 --cfg job", "--config-dir=my_conf --cfg job a=1 b=2"),
        ("~a -cd my_conf +b=-1 -m", "-cd my_conf -m ~a +b=-1"),
        ("-c job", "-c job"),
        ("a=1 --cfg", "--cfg a=1"),
        ("", ""),
    ],
)
def test_options_may_stand_between_overrides(typed, given):
    assert for_hydra(typed.split(), {}) == given.split()


@pytest.mark.parametrize("option", ["--experimental-rerun", "--experimental-rerun=run.pickle", "--exp", "--e"])
def test_no_file_is_unpickled(option):
    with pytest.raises(ConfigError, match=f"^{option}: unpickles a file"):
        for_hydra(["+experiment=ner_lora", option, "run.pickle"], {})


@dataclass
class Asked:
    """What a command comes to."""

    config: Any
    """Hydra's first."""
    spec: SweepSpec
    space: Space
    compose: Any

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        return [self.compose([*self.space.fixed, *proposal.overrides]) for proposal in grid(self.space)]


@lru_cache
def ask(*typed: str) -> Asked:
    arguments = for_hydra(["-m", *typed], {})[1:]
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    config = loader.load_configuration("config", [*arguments, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    context: Any = SimpleNamespace(config_loader=loader)
    spec = sweep_spec(config)
    overrides = OmegaConf.to_container(config.hydra.overrides.task)
    assert isinstance(overrides, list)
    space = Space.parse(overrides, spec, loader, config.hydra.runtime.choices.get("peft"))
    return Asked(config, spec, space, Composer(context, config))


def at(config: Any, key: str) -> Any:
    return OmegaConf.select(OmegaConf.create(config), key)


TWO = ["data=csv,json_lines"]
PATHS = [
    "x",
    "",
    "'a, b=c (d)'",
    "${name}",
    "{a: 1, b: [x, 'y z']}",
    "[1,2]",
    "null",
    "true",
    "a b",
    "C:\\\\d",
    "'\\t'",
]
OPTIONS = [
    *[([*TWO, f"data.path={value}"], [1]) for value in PATHS],
    (["scheduler=cosine,wsd", "scheduler.min_factor=0.1"], [1]),
    (["scheduler=choice(cosine,wsd)", "scheduler.min_factor=0.1", "peft.r=8"], [1]),
    ([*TWO, "++data.format.text=body", "+data.mine=1", "data.splits.test=0.1", "data.name=d"], [1, 2, 3, 4]),
    (["+experiment=ner_lora,ner_full", "peft.r=8", "name=n", "seed=1", "task=ner", "data.labels=[a,b]"], [1, 5]),
    (["peft=glob(l*)", "peft.r=4,8", "peft.lora_alpha=16"], [2]),
    (["callbacks=[],[progress]", "callbacks.progress.every_seconds=5", "logger.csv.x=1"], [1]),
    (["+recipe=a,b", "sweep.dry_run=true", "hydra.launcher.trials_at_once=2", "optimizer.lr=1e-3"], [3]),
]


@pytest.mark.parametrize(("typed", "laid_aside"), OPTIONS, ids=str)
def test_an_option_below_a_swept_group_is_for_the_cells_alone(typed, laid_aside, monkeypatch):
    arguments = for_hydra(["-m", *typed], {})
    assert arguments[0] == "-m"
    parser = OverridesParser.create()
    for n, (before, after) in enumerate(zip(typed, arguments[1:], strict=True)):
        assert (before != after) == (n in laid_aside)
        if n in laid_aside:
            override = parser.parse_override(after)
            assert override.is_sweep_override()  # which Hydra leaves out of its first composition
            (value,) = set(override.sweep_string_iterator())
            assert parser.parse_override(f"key={value}").value() == parser.parse_override(before).value()
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    assert [text.replace("''", "") for text in command()] == ["python", "-m", "train", "-m", *typed]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "key", "values"),
    [
        (["scheduler=cosine,wsd", "scheduler.min_factor=0.1"], "scheduler.min_factor", [0.1, 0.1]),
        ([CLASSIFY, *TWO, "data.path=x", "++data.format.text=body"], "data.format.text", ["body", "body"]),
        ([CLASSIFY, *TWO, "data.path=null"], "data.source.path", [None, None]),
        (["+experiment=ner_lora,ner_full", "peft.learning_rate=1e-3"], "optimizer.lr", [1e-3, 1e-3]),
        (["peft=rslora,lora", "peft.r=4,8"], "peft.r", [4, 8, 4, 8]),
    ],
    ids=str,
)
def test_it_counts_in_every_cell(typed, key, values):
    assert [at(config, key) for config in ask(*typed).cells] == values


@pytest.mark.parametrize(
    "arguments",
    [
        ["peft.r=8", "data.path=x"],
        ["-m", "seed=0,1", "peft.r=8"],
        ["-m", "peft.r=4,8", "peft.lora_alpha=16", "peft=lora"],
        ["-m", "data=csv,json_lines", "peft.r=8", "name=n", "sweep.name=s", "hydra.launcher.trials_at_once=2"],
        ["-m", "data=csv,json_lines", "~data.path", "data.path=a,b", "data.path"],
        ["-m", "+experiment=ner_lora,ner_full", "name=n", "sweep.dry_run=true", "hydra/launcher=peftlab", "seed=1"],
        ["-m", "data=choice(csv)", "not read ("],
    ],
    ids=str,
)
def test_what_counts_for_all_is_left_to_hydra(arguments):
    assert for_hydra(arguments, {}) == arguments
    assert as_typed(arguments) == arguments


def test_what_is_no_option_is_no_dimension():
    space = ask("scheduler=cosine,wsd", "scheduler.min_factor=0.1", "seed=0,1").space
    assert [one.key for one in space.dimensions] == ["scheduler"]
    assert space.fixed == ("scheduler.min_factor=0.1",)
    assert space.seeds == (0, 1)


class Lookers:
    """Know of nothing that is wrong."""

    def facts(self, configs):
        return [Fact(str(config), "f1", "max") for config in configs]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "lacking", "key"),
    [
        (["peft=lora,ia3", "peft.r=8"], "peft=ia3", "peft.r"),
        (["peft=ia3,lora", "peft.r=8"], "peft=ia3", "peft.r"),
        ([CLASSIFY, "data=bbc_topics,csv", "data.path=x"], "data=bbc_topics", "data.path"),
        (
            ["+experiment=sentiment_lora,topics_lora", "data.format.label=y"],
            "+experiment=topics_lora",
            "data.format.label",
        ),
    ],
)
def test_a_choice_that_lacks_an_option_is_named(typed, lacking, key):
    asked = ask(*typed)
    cells = Cells(asked.compose, asked.space.fixed, Lookers())
    with pytest.raises(ConfigError) as told:
        cells.checked(GridPlan(grid(asked.space)).proposals)
    assert str(told.value).startswith("1 of 2 trials cannot be run, and none was started:")
    assert f"there is no key '{key}'" in str(told.value)
    assert str(told.value).endswith(f"\n    {lacking}")
    assert f"Did you mean '{key}'" not in str(told.value)


@pytest.mark.parametrize("text", ["~data.path", "data.path", "data.format.delimiter=1,2", "data.path=x"])
def test_a_refused_key_is_never_proposed(text):
    """Whatever is composed, and with whichever choice the message looks for keys."""
    key = text.strip("~").partition("=")[0]
    refused = HydraException(f"Could not override '{key}'.")
    told = explain_composition(refused, [CLASSIFY, *TWO, text])
    assert f"Did you mean '{key}'" not in told
    assert f"++{key}=" in told


def folder(cells: list[dict[str, Any]], **sweep: Any) -> str:
    config = {"sweep_dir": None, "sweep": {"name": None}, "hydra": {"sweep": {"dir": "sweeps"}}} | sweep
    return str(folder_of(OmegaConf.create(config), [Cell(Proposal(()), one, [], "", "f1", "max") for one in cells]))


def named(name: str | None = None, data: str = "conll2003") -> dict[str, Any]:
    return {"name": name, "task": {"name": "ner"}, "data": {"name": data}}


@pytest.mark.parametrize(
    ("cells", "sweep", "expected"),
    [
        ([named(), named()], {}, "sweeps/ner-conll2003"),
        ([named("mine"), named("mine")], {}, "sweeps/mine"),
        ([named("b"), named("a"), named("b")], {}, "sweeps/a+b"),
        ([named(None, "x"), named(None, "y")], {}, "sweeps/ner-x+ner-y"),
        ([named("a/x"), named("b/y")], {}, "sweeps/a_x+b_y"),
        ([named("b"), named("a")], {"sweep": {"name": "of/it"}}, "sweeps/of/it"),
        ([named("b", "x"), named("a", "y")], {"sweep": {"name": "by-${data.name}"}}, "sweeps/by-x+by-y"),
        ([named("b"), named("a")], {"sweep_dir": "here"}, "here"),
    ],
    ids=str,
)
def test_a_sweep_is_named_by_its_cells(cells, sweep, expected):
    assert folder(cells, **sweep) == expected


@pytest.mark.slow
def test_an_experiment_that_is_swept_names_the_sweep():
    cells = ask("+experiment=sentiment_lora,topics_lora").cells
    assert folder(cells) == folder(cells[::-1]) == "sweeps/sentiment_lora+topics_lora"


def test_many_names_are_cut():
    def name_of(count: int) -> str:
        return Path(folder([named(f"长名_{n}") for n in range(count)])).name

    assert name_of(2) == "长名_0+长名_1"
    assert name_of(40) != name_of(41)
    assert name_of(40).startswith("40+长名_0+长名_1+长名_10")
    assert len(name_of(40).encode()) <= 120


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["peft=lora,head"], {"auto"}),
        (["trainer=cpu,gpu"], {"cpu", "gpu"}),
        (["+experiment=ner_lora,ner_full", "trainer.accelerator=cpu"], {"cpu"}),
    ],
)
def test_trials_run_where_their_own_configuration_says(typed, found):
    asked = ask(*typed)
    assert accelerators(asked.space.fixed, grid(asked.space), asked.compose) == found


@pytest.mark.slow
def test_defaults_are_those_of_the_cells():
    asked = ask(CLASSIFY, "data=csv,json_lines", "data.path=x", "peft=lora,ia3", "budget.test=false")
    cells = Cells(asked.compose, asked.space.fixed, Lookers())
    example = Proposal(asked.space.example())
    assert default_under(cells, example, "budget.test", []) is False
    rates = [default_under(cells, example, "optimizer.lr", [f"peft={method}"]) for method in ("lora", "ia3")]
    assert rates[0] != rates[1]


@pytest.mark.slow
def test_an_experiment_that_is_swept_does_not_say_how(tmp_path):
    (tmp_path / "experiment").mkdir()
    for name, trials in (("one", 3), ("two", 4)):
        text = f"# @package _global_\nname: {name}\nsweep:\n  budget:\n    trials: {trials}\n"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    mine = f"hydra.searchpath=['file://{tmp_path}']"
    asked = ask(mine, "sweep=search", "+experiment=one,two")
    with pytest.raises(
        UserError, match=r"^sweep\.budget\.trials = 3 under \+experiment=one: .*sweep\.budget\.trials=3$"
    ):
        check_section(asked.space, asked.compose, asked.config)
    for fine in (["+experiment=one", "sweep.search=random", "seed=0,1"], ["sweep=search", "sweep.budget.trials=4"]):
        asked = ask(mine, *fine)
        check_section(asked.space, asked.compose, asked.config)
    asked = ask(mine, "sweep=search", "+experiment=one,two", "sweep.budget.trials=5")
    check_section(asked.space, asked.compose, asked.config)


def test_scores_that_are_not_the_same_are_not_compared(caplog, monkeypatch):
    cells = [Cell(Proposal(()), {}, [], "", metric, mode) for metric, mode in (("f1", "max"), ("loss", "min"))]
    for same in (cells[:1], [cells[0], cells[0]]):
        check_scores(SweepSpec(search="random"), {"selection.value": "max"}, same)
    check_scores(SweepSpec(search="random"), {"cost.wall_seconds": "min"}, cells)
    with pytest.raises(ConfigError, match=r"f1 \(max\), loss \(min\)"):
        check_scores(SweepSpec(search="random"), {"selection.value": "max"}, cells)
    monkeypatch.setattr("peftlab.sweep.sweep.log.propagate", True)
    check_scores(SweepSpec(), {"selection.value": "max"}, cells)
    assert "none of them is called the best" in caplog.text


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        (["peft=lora,head", "seed=1,2"], ["peft=lora", "seed=1"]),
        ([CLASSIFY, "data=csv,json_lines", "data.path=x"], [CLASSIFY, "data=csv", "data.path=x"]),
        (["optimizer.lr=tag(log, interval(1e-5, 1e-2))"], ["optimizer.lr=1e-05"]),
        (["seed=range(3,9)"], ["seed=3"]),
    ],
    ids=str,
)
def test_the_configuration_of_a_sweep_that_is_shown_is_that_of_its_first_trial(typed, given):
    assert for_hydra(["--cfg", "job", "-m", *typed], {}) == ["--cfg", "job", *given]


def test_what_a_sweep_sets_for_each_run_is_refused_and_its_own_setting_named():
    refuse_what_each_run_is_given(["existing=auto", "+run_dir=null", "peft.existing=rerun"])
    with pytest.raises(ConfigError, match=r"existing=rerun: .* sweep\.reuse"):
        refuse_what_each_run_is_given(["seed=0,1", "existing=rerun"])
    with pytest.raises(ConfigError, match=r"run_dir=mine: .* sweep_dir=mine"):
        refuse_what_each_run_is_given(["run_dir=mine"])
