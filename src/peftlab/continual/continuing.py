"""Goes on training a finished run on new data, and says what that has done to the old."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from peftlab.composing.compose import compose, conf_dir, explain_composition
from peftlab.composing.hydra_gate import plain_values
from peftlab.continual.scoring import UNUSED, StageModel
from peftlab.continual.stages import OF_MEMORY, Config, filled
from peftlab.data.augmentation.augmentation import Augmentation
from peftlab.data.reading import plain, read_data_set
from peftlab.errors import ConfigError, DataError, UserError, did_you_mean
from peftlab.one_run import run as train
from peftlab.one_run import settle
from peftlab.regularizers.regularizer import Regularizer
from peftlab.report.statistics.measured import cluster_counts
from peftlab.runs.folder import read_predictions
from peftlab.runs.identity import leaves
from peftlab.scores.paired import counts_of, difference
from peftlab.sources import FilesSource
from peftlab.specs import class_of, join, prefixes_of
from peftlab.use.check import SETTLED_WHOLE
from peftlab.use.finished import FinishedRun, load

log = logging.getLogger("peftlab")

Method = Literal["replay", "ewc", "lwf", "none"]

OF_THE_OLD_DATA = ("fold", "subset", "replay", "labelled")
"""Options of a run's data that say nothing of the new."""

DECIDED = ("adapter", "data.labels", "data.path", "data.replay", "peft.previous")
"""What the new data, the run and the method decide."""

_WEIGHTS = [f"task.{key}" for key in SETTLED_WHOLE]
"""Options whose value may be a number for each label."""


@dataclass(frozen=True)
class Change:
    """The score on a test split, before and after, with the 95 % interval of the paired difference over documents, or
    examples where the data names none.
    """

    before: float | None
    """None where the old model does not know the labels."""
    after: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Continued:
    """A run that has gone on with new data."""

    run: FinishedRun
    metric: str
    old: Change
    new: Change
    new_labels: tuple[str, ...]


def continue_run(
    run: FinishedRun,
    data: Path,
    method: Method = "replay",
    per_class: int | None = 5,
    overrides: Sequence[str] = (),
    command: Sequence[str] = (),
) -> Continued:
    """Train the model of `run` on new `data`, and score both models on the old test split and on the new one.

    Args:
        run: a trained run.
        data: a file or a folder in the format of the run's data. A split without a file is held out.
        method: what keeps the old: replay, some of the old training examples join the new ones; ewc or lwf, a
            regulariser; none, nothing does.
        per_class: examples of each class that are replayed; None: all examples.
        overrides: values of the configuration that are to be others than in the run, ``key=value``.
        command: the command line, for the record.

    Raises:
        UserError: the run or the data cannot be used so.
    """
    config, new_labels = continued(run, data, method, per_class, overrides)
    _warn_of_learnt_tests(run, config)
    after = load(train(config, command, overrides).folder, run.folder.allow)
    metric = run.spec.task.selection.metric
    models = StageModel(run), StageModel(after)
    old = _change(models, run.config, metric)
    new = _change(models if not new_labels else (None, models[1]), after.config, metric)
    return Continued(after, metric, old, new, tuple(new_labels))


def continued(
    run: FinishedRun, data: Path, method: Method, per_class: int | None, overrides: Sequence[str] = ()
) -> tuple[Config, list[str]]:
    """Return the configuration of the run that goes on, and the labels that only the new data has.

    Raises:
        UserError: the run or the data cannot be used so.
    """
    run.record.check_trained("continue")
    if run.spec.privacy is not None:
        raise UserError(
            f"{run.folder.path}: was trained with differential privacy, and what both trainings reveal together is "
            "not accounted for. Train on all the data at once"
        )
    if not data.exists():
        raise DataError(f"'{data}': there is no such file or folder")
    config = deepcopy(run.config) | {"adapter": None, "existing": "auto", "run_dir": None}
    config["name"] = f"{run.record.data['name']}-continued"
    of_data = config["data"]
    of_data["source"] = {
        "_target_": f"{FilesSource.__module__}.{FilesSource.__qualname__}",
        "path": str(data.absolute()),
        "licence": None,
    }
    of_data["path"] = None
    of_data["splits"] = dict.fromkeys(("train", "validation", "test"), "auto")
    of_data |= {key: None for key in OF_THE_OLD_DATA if key in of_data}
    config["budget"]["listed"] = None
    _forget_old_examples(config)
    config = _with_values(_kept(config, run, method, per_class), overrides)
    _warn_of_old_weights(config)
    new_labels = _new_labels(run, config)
    if run.parts.data.labels:
        config["data"]["labels"] = [*run.parts.data.labels, *new_labels]
    if "previous" in config["peft"]:
        config["peft"]["previous"] = filled(None, [run.folder.path.absolute()])
    else:
        config["adapter"] = str(run.folder.adapter.absolute())
    return config, new_labels


def _forget_old_examples(config: Config) -> None:
    """Leave out of `config` what its parts have read off the training examples, which are now others."""
    semi, prefixes = config.get("semi") or {}, prefixes_of(config)
    parts = {key: config[key] for key in ("regularizer", "augment")}
    parts |= {f"semi.{view}": semi.get(view) or {} for view in ("weak", "strong")}
    for key, part in parts.items():
        for name, node in part.items():
            kind: type[Regularizer | Augmentation] = class_of(node, join(key, name), prefixes)
            node.update(dict.fromkeys(kind.of_examples))


def _warn_of_old_weights(config: Config) -> None:
    """Say that weights of labels stay as they are: those of `balanced` have been counted, and are numbers now."""
    for key in _WEIGHTS:
        if isinstance(config["task"].get(key.removeprefix("task.")), dict):
            log.warning(
                "%s: its numbers are kept, even if they were counted in the old training examples, and new labels have "
                "1. To count the new examples, set %s=balanced",
                key,
                key,
            )


def _kept(config: Config, run: FinishedRun, method: Method, per_class: int | None) -> Config:
    """Return the configuration with what keeps the old: for replay, also what `run` itself has replayed."""
    place = run.folder.path.absolute()
    of_memory = [name for name, node in config["regularizer"].items() if node.get("_target_") == OF_MEMORY]
    for name in of_memory:  # it now has another memory, or none
        if method == "replay":
            config["regularizer"][name]["sha256"] = []
        else:
            del config["regularizer"][name]
            log.warning("regularizer.%s is left out: with --method %s nothing is remembered", name, method)
    if method == "replay":
        earlier = run.config["data"].get("replay") or []
        config["data"]["replay"] = [*earlier, {"run": str(place), "per_class": per_class}]
    elif method != "none":
        if not (conf_dir() / "regularizer" / f"{method}.yaml").is_file():
            raise ConfigError(f"method = {method}: there is no such regulariser")
        node = plain_values(compose(f"regularizer=[{method}]"))["regularizer"][method]
        config["regularizer"] = {
            **config["regularizer"],
            method: node | {"previous": filled(node["previous"], [place])},
        }
    return config


def _with_values(config: Config, overrides: Sequence[str]) -> Config:
    """Return the configuration with the values of `overrides`.

    Raises:
        ConfigError: there is no such key, it is decided already, or it chooses an option of a group.
    """
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            raise ConfigError(explain_composition(error, [text])) from error
        if override.key_or_group in DECIDED:
            raise ConfigError(f"{text}: follows from the run, the new data and the method; leave it out")
        *path, leaf = override.key_or_group.split(".")
        node: Any = config
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        is_value = isinstance(node, dict) and leaf in node
        if not is_value or (isinstance(node[leaf], dict) and override.key_or_group not in _WEIGHTS):
            keys = [key for key, _ in leaves(config)]
            raise ConfigError(
                f"{text}: the run has no such single value.{did_you_mean(override.key_or_group, keys)} The rest of the "
                "configuration is that of the run"
            )
        node[leaf] = override.value()
    return config


def _new_labels(run: FinishedRun, config: Config) -> list[str]:
    """Return the labels that the new data has and `run` does not know."""
    known = run.parts.data.labels
    if not known:
        return []
    _, spec = settle({**config, "data": {**config["data"], "labels": None}})
    read_data_set(spec.data, spec.task)
    return [label for label in spec.task.declared_labels if label not in known]


def _warn_of_learnt_tests(run: FinishedRun, config: Config) -> None:
    """Say how many of the old test texts the new model is trained on, which make its score on them too good."""
    (test, task), (train, _) = (
        (read_data_set(spec.data, spec.task)[0][split], spec.task)
        for split, spec in (("test", run.spec), ("train", settle(config | UNUSED)[1]))
    )
    learnt = {plain(task.text_key(example)) for example in train}
    if count := sum(plain(task.text_key(example)) in learnt for example in test):
        log.warning(
            "%d of %d texts of the old test split are in the new training data, so that the score on the old data is "
            "too good: give only what is new",
            count,
            len(test),
        )


def _change(models: tuple[StageModel | None, StageModel], config: Config, metric: str) -> Change:
    """Return the scores of both models on the test split of `config`."""
    before, after = models
    with tempfile.TemporaryDirectory(prefix="peftlab-continue-") as name:
        folder = Path(name)
        after_score = after.score(config, metric, folder / "after")
        if before is None:
            return Change(None, after_score)
        before_score = before.score(config, metric, folder / "before")
        answers = [read_predictions(folder / which / "test.jsonl") for which in ("after", "before")]
    scorer = after.run.spec.task.scorer
    if metric not in scorer.directions:  # a loss does not follow from the answers
        return Change(before_score, after_score)
    own, others = (cluster_counts(counts_of(scorer, of), [answer.get("group") for answer in of]) for of in answers)
    if len(own) == 1:  # of a single document nothing follows for others
        return Change(before_score, after_score)
    found = difference(lambda total: scorer.scores(total)[metric], own, others)
    return Change(before_score, after_score, found.low, found.high)
