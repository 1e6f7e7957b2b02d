"""Learns a stream: a chain of ordinary runs, each starting from the one before, and all scored on every stage.

Contenders, seeds and orders are walks through the same stages. Runs are named by all that decides them, so that walks
share what they have in common: the first stage, and what each stage alone and all together would have learnt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from peftlab.chains.chain import CHAIN, Chain, check_data, read_chain
from peftlab.continual.matrix import Matrix, matrix_of
from peftlab.continual.nearest_mean import Embedded, embed, nearest_mean
from peftlab.continual.scoring import UNUSED, StageModel, known_metric
from peftlab.continual.spec import StreamSpec
from peftlab.continual.stages import Composing, Config, Contender, Plan, key_of
from peftlab.data.reading import read_data_set
from peftlab.errors import ConfigError
from peftlab.imports import find_here
from peftlab.one_run import settle
from peftlab.runs.identity import asked_sha256
from peftlab.runs.record import RunRecord
from peftlab.specs import packages_of
from peftlab.storage.digests import sha256_of
from peftlab.use.ensembles.merging import merge_runs
from peftlab.use.finished import load

log = logging.getLogger("peftlab")

FOLDERS = Path("streams")
"""Where streams lie, by name."""

KIND = "stream"

HASHED = "sha256_of_configuration"
"""The setting of its chain that holds the digest of the configuration."""

_NEVER_HASHED = ("run_dir", "existing", "sweep", "logger")


@dataclass(frozen=True)
class Walk:
    """One contender on the stages in one order, with one seed."""

    contender: str
    seed: int
    order: int
    stages: tuple[str, ...]
    """The names of the stages, in that order."""
    runs: tuple[str, ...]
    """The names of their runs in the chain; the last may be the merged one."""
    matrix: Matrix
    joint: float | None = None
    """The accuracy of the same method on all the data at once; None: not trained."""


@dataclass(frozen=True)
class Result:
    """All walks of a stream."""

    folder: Path
    spec: StreamSpec
    metric: str
    walks: list[Walk]
    controls: list[Walk]
    """The same for what is trained beside; the contender is the name of the control and that of the contender."""
    runs: list[dict[str, Any]]
    """What the chain says of each run."""


class Stream:
    """A stream in a folder.

    Args:
        chain: its runs.
        composing: composes their configurations.
        digest: of a configuration, which runs are named by.
    """

    def __init__(self, chain: Chain, composing: Composing, digest: Callable[[Config], str]) -> None:
        self.chain, self.composing, self.digest = chain, composing, digest
        whole = Contender("", (), composing)
        self.base, self.spec = whole.config(), whole.spec
        self.contenders = [Contender(name, tuple(own), composing) for name, own in (self.spec.methods or {}).items()]
        if not self.contenders:
            self.contenders = [replace(whole, name=self.base["peft"]["name"])]
        self._models: dict[tuple[str, ...], StageModel] = {}
        self._embeddings: dict[str, Embedded] = {}
        self._found = {run["name"] for run in chain.stages}
        """The runs of an earlier call, until it is known that the data are still those that they were trained on."""

    def learn(self) -> Result:
        """Do all runs that are not done yet, score them, and return the result.

        Raises:
            UserError: a run cannot be done, or scored on a stage.
        """
        seeds = self.spec.seeds or [self.base["seed"]]
        orders = self.spec.orders or [self.spec.order]
        for contender in self.contenders:
            self._check(Plan(contender, seeds[0], orders[0]))
        walks: list[Walk] = []
        controls: dict[tuple[Any, ...], Walk] = {}
        for seed, order, contender in product(seeds, orders, self.contenders):
            plan = Plan(contender, seed, order)
            log.info("stream: %s, seed %d, order %d: %s", contender.name, seed, order, ", ".join(_names(plan)))
            beside = {control: self._control(control, plan) for control in self.spec.controls}
            for control, walk in beside.items():  # contenders of one method share them: they are named for the first
                controls.setdefault((control, walk.runs, seed, order), walk)
            joint = beside["joint"].matrix.accuracy if "joint" in beside else None
            walks.append(Walk(contender.name, seed, order, _names(plan), *self._walk(plan), joint))
        return Result(self.chain.folder, self.spec, self._metric(), walks, list(controls.values()), self.chain.stages)

    def _check(self, plan: Plan) -> None:
        """Check, before anything is trained, that a contender can do what it is asked for.

        Raises:
            ConfigError: it cannot.
        """
        _, first = settle(plan.alone(0))
        metric = known_metric(self._metric(), first.task.directions)
        if "nearest_mean" in plan.spec.controls and metric != "accuracy":
            raise ConfigError(
                f"stream.controls: nearest_mean is judged by its accuracy, and this stream by {metric}. Set "
                "stream.metric=accuracy, or leave it out"
            )
        if plan.spec.method == "separate_and_merge" and (idle := plan.keeping()):
            raise ConfigError(
                f"{idle[0]}: with stream.method=separate_and_merge no stage follows another one, so that it would do "
                "nothing. Leave it out"
            )

    def _metric(self) -> str:
        return self.spec.metric or str(self.base["task"]["selection"]["metric"])

    def _walk(self, plan: Plan) -> tuple[tuple[str, ...], Matrix]:
        """Return the runs of a plan and the matrix of their scores."""
        if plan.spec.method == "separate_and_merge":
            return self._merged(plan)
        runs: list[str] = []
        rows = []
        for place in range(len(plan.stages)):
            runs.append(self._stage(plan, place, runs))
            rows.append([self._score(plan, runs, stage) for stage in range(len(plan.stages))])
            log.info("stream: after %s: %s", plan.stages[place].name, _shown(rows[-1]))
        return tuple(runs), matrix_of(rows, self._mode(runs[-1]))

    def _mode(self, run: str) -> Any:
        directions = load(self._folder(run)).parts.task.directions
        return directions[known_metric(self._metric(), directions)]

    def _stage(self, plan: Plan, place: int, earlier: Sequence[str]) -> str:
        """Do the run of a stage, and return its name."""
        return self._run(plan.stages[place].name, lambda root: plan.config(place, [root / run for run in earlier]))

    def _alone(self, plan: Plan, place: int, labels: Sequence[str] | None = None) -> str:
        """Do the run of a stage that starts from the pretrained model, and return its name."""
        return self._run(plan.stages[place].name, lambda root: plan.alone(place, labels))

    def _run(self, name: str, config: Callable[[Path], Config]) -> str:
        """Do the run of a configuration that names earlier ones below a root, and return its name in the chain."""
        of_chain = f"{name}-{self.digest(config(Path()))[:8]}"
        whole = config(self.chain.folder.absolute()) | {"name": name}
        record = self.chain.run(of_chain, whole)
        if of_chain in self._found:
            _, spec = settle(whole | UNUSED)
            check_data(record, read_data_set(spec.data, spec.task)[1].sha256)
            self._found.remove(of_chain)
        self.chain.note(of_chain, **_seen(record))
        return of_chain

    def _folder(self, run: str) -> Path:
        return self.chain.folder / run

    def _score(self, plan: Plan, runs: Sequence[str], stage: int) -> float | None:
        """Return the score of the last of `runs` on a stage; None where its head does not know the labels."""
        last, own = runs[-1], stage == len(runs) - 1
        if plan.spec.scenario != "domain" and stage >= len(runs):
            return None
        if own:
            return self._recorded(last)
        head = runs[stage] if plan.spec.scenario == "task" else None
        return self._scored(last, plan, stage, head)

    def _recorded(self, run: str) -> float:
        record = RunRecord.load(self._folder(run))
        names = [score["name"] for score in record.scores("test")]
        value = record.score("test", known_metric(self._metric(), names))
        assert value is not None, "the name is one of those recorded"
        return value

    def _scored(self, run: str, plan: Plan, stage: int, head: str | None = None) -> float:
        """Return the score of a run on a stage that is not its own; computed once, and kept in the chain."""
        fact = f"on {plan.stages[stage].name} {sha256_of([plan.test_of(stage), head, self._metric()])[:8]}"
        entry = self.chain.stage(run)
        if entry is not None and fact in entry:
            return float(entry[fact])
        key = (run,) if head is None else (run, head)
        if key not in self._models:
            self._models = {key: StageModel(*(load(self._folder(each)) for each in key))}  # one at a time in memory
        value = self._models[key].score(plan.alone(stage), self._metric())
        if entry is not None:
            self.chain.note(run, **{fact: value})
        return value

    def _merged(self, plan: Plan) -> tuple[tuple[str, ...], Matrix]:
        """Train each stage alone, merge their weights, and score the result on all."""
        labels = sorted(plan.seen(len(plan.stages) - 1)) or None
        places = range(len(plan.stages))
        runs = [self._alone(plan, place, labels) for place in places]
        how, options = str(plan.spec.merge.get("how")), {k: v for k, v in plan.spec.merge.items() if k != "how"}
        members = [load(self._folder(run)) for run in runs]
        merged = merge_runs(members, how, options, name="merged", root=self.chain.folder)
        rows: list[list[float | None]] = [
            [self._recorded(run) if place == stage else None for stage in places] for place, run in enumerate(runs)
        ]
        model = StageModel(merged)
        last, rows[-1] = rows[-1][-1], [model.score(plan.alone(stage), self._metric()) for stage in places]
        matrix = replace(matrix_of(rows, self._mode(runs[0])), last=last)
        return (*runs, str(merged.folder.path.relative_to(self.chain.folder))), matrix

    def _control(self, control: str, plan: Plan) -> Walk:
        """Return what a control makes of the stages; its matrix has the same scores in all rows but those of means."""
        count, names = len(plan.stages), _names(plan)
        named = f"{control} ({plan.contender.name})"
        if control == "nearest_mean":
            together = plan.spec.scenario != "task"
            means = nearest_mean([self._embedded(plan, place) for place in range(count)], together)
            return Walk(control, plan.seed, plan.order, names, (), Matrix(means))
        if control == "joint":
            runs: tuple[str, ...] = (self._run("joint", lambda root: plan.joint()),)
            scores = [self._scored(runs[0], plan, stage) for stage in range(count)]
        else:
            runs = tuple(self._alone(plan, place) for place in range(count))
            scores = [self._recorded(run) for run in runs]
        return Walk(named, plan.seed, plan.order, names, runs, matrix_of([scores] * count, self._mode(runs[0])))

    def _embedded(self, plan: Plan, place: int) -> Embedded:
        """Return the embeddings of a stage, which all contenders share."""
        key = str(sha256_of([plan.test_of(place), plan.alone(place)["model"]]))
        if key not in self._embeddings:
            self._embeddings[key] = embed(plan.alone(place))
        return self._embeddings[key]


def learn(
    overrides: Sequence[str], folder: Path | None = None, config_dir: str | None = None, command: Sequence[str] = ()
) -> Result:
    """Learn the stream that `overrides` describe, or go on with it where it stopped, and return the result.

    Args:
        overrides: in Hydra's grammar, as on the command line, with ``stream=...`` or an experiment that chooses one.
        folder: of the stream; None: ``run_dir`` if it is set, else ``streams/<name>``.
        config_dir: the user's own folder of options.
        command: the command line, for the records.

    Raises:
        UserError: the configuration cannot be used, or the folder holds something else.
    """
    composing = Composing(tuple(overrides), config_dir)
    config = composing()
    find_here(packages_of(config))
    if not config["budget"]["test"]:
        raise ConfigError(
            "budget.test=false: a stream is judged by the test splits of its stages. Set budget.test=true"
        )
    if config.get("adapter") is not None:
        raise ConfigError("adapter: the first stage of a stream starts from the pretrained model; leave adapter out")
    name = config["name"] or f"{config['task']['name']}-{config['data']['name']}"
    place = folder or Path(config["run_dir"] or FOLDERS / name)
    typed = {key: text for text in overrides if (key := key_of(text)) != "run_dir"}
    digest: Callable[[Config], str] = _deciding_sha256
    asked = digest(config)
    # an older version hashed keys that decide nothing, too, also for the names of runs: what it began goes on like that
    before = sha256_of({key: value for key, value in config.items() if key not in _NEVER_HASHED})
    if (place / CHAIN).is_file() and read_chain(place)["settings"].get(HASHED) == before:
        digest, asked = sha256_of, before
    with Chain(place, KIND, {"overrides": typed, HASHED: asked}, tuple(command)) as chain:
        return Stream(chain, composing, digest).learn()


def _deciding_sha256(config: Config) -> str:
    """Return the digest of what decides in a composed configuration, in which the section of sweeps does nothing."""
    return asked_sha256({key: value for key, value in config.items() if key != "sweep"})


def _names(plan: Plan) -> tuple[str, ...]:
    return tuple(stage.name for stage in plan.stages)


def _shown(scores: Sequence[float | None]) -> str:
    return " ".join("-" if score is None else f"{score:.3f}" for score in scores)


def _seen(record: RunRecord) -> dict[str, Any]:
    """Return which labelled examples a run has looked at, and what it cost."""
    splits = record.data["data"]["splits"]
    replayed = record.data["data"].get("replay") or []
    remembered = sum(int(each.get("examples") or 0) for each in replayed)
    return {
        "trained_on": splits["train"]["rows"] - remembered,
        "remembered": remembered,
        "selected_on": splits["validation"]["rows"],
        "seconds": record.device_seconds(),
        "trainable": record.data["method"]["trainable_parameters"],
    }
