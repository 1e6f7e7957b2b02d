"""What a text model says of every row, without having seen it.

The score of a text that a model was trained on tells its label: a model of the table that learns from such scores
trusts them more than any other. So the training rows are scored in folds, each by a model that was trained on the
others, and the later rows by one that was trained on all of them (Wolpert 1992; Breiman 1996, "Stacked regressions").
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from peftlab.chains.chain import Chain
from peftlab.composing.compose import compose
from peftlab.composing.hydra_gate import plain_values
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.texts import TextRows
from peftlab.errors import ConfigError, UserError
from peftlab.runs.folder import each_prediction
from peftlab.runs.record import RunRecord
from peftlab.sources import FilesSource
from peftlab.storage.atomic import replacing
from peftlab.tables.applications import Applications
from peftlab.tables.columns import category_of, name_of
from peftlab.tables.periods import SPLITS

log = logging.getLogger("peftlab")

DATA, WHOLE = "data", "all"
"""The folder of the texts, and that of the run on the whole training period."""

DECIDED = ("fold", "subset", "labelled", "replay", "clean")
"""Options of the data that would change which rows are scored."""

LEAST = 1e-6
"""Probabilities are kept this far from 0 and 1, as log odds would be infinite there."""


def composed(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """Return the configuration of the text model.

    Raises:
        ConfigError: it cannot be used, or decides what a scorecard decides.
    """
    config: dict[str, Any] = plain_values(compose(*overrides, config_dir=config_dir))
    data = config["data"]
    if data.get("path") in (None, "???"):
        raise ConfigError("data.path=FILE: name the table")
    if odd := [key for key in DECIDED if data.get(key) is not None]:
        raise ConfigError(f"data.{odd[0]}: a scorecard scores every row of its table; leave it out")
    if data.get("duplicates") == "drop":
        raise ConfigError("data.duplicates=drop: a scorecard scores every row of its table; leave it at keep")
    if not config["budget"]["test"]:
        raise ConfigError("budget.test=false: folds are scored as test splits; leave it at true")
    return config


def write_texts(folder: Path, table: Applications, split: np.ndarray) -> None:
    """Write the texts of each split as a data set, which has the rows in the order of the table."""
    named = table.named
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        rows, _ = table.part(np.flatnonzero(split == name))
        lines = [
            {"text": str(row[named.text]).strip(), "label": name_of(row[named.label])}
            | ({} if named.group is None else {"group": category_of(row[named.group])})
            for row in rows
        ]
        with replacing(folder / f"{name}.jsonl") as temporary:
            temporary.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), "utf-8")


def text_scores(
    chain: Chain, config: Mapping[str, Any], table: Applications, split: np.ndarray, folds: int, positive: str
) -> np.ndarray:
    """Return the log odds of `positive` that the texts have, shape (rows,): out of fold for the training rows.

    Args:
        chain: the runs, which are done where they are missing.
        config: of the text model, see `composed`.
        table: the rows.
        split: of each row.
        folds: how many there are; rows of one group are in one fold.
        positive: the label.

    Raises:
        UserError: a run cannot be done, or does not give every row a probability.
    """
    write_texts(chain.folder / DATA, table, split)
    base = _of_texts(config, chain.folder / DATA, grouped=table.named.group is not None)
    scores = np.full(len(split), np.nan)
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    for number in range(1, folds + 1):
        name = f"fold-{number}"
        record = chain.run(name, {**base, "name": name, "data": {**base["data"], "fold": f"{number}/{folds}"}})
        before = np.isnan(scores).sum()
        _fill(scores, rows["train"], record, "test", positive)
        if (size := int(before - np.isnan(scores).sum())) * folds > 2 * len(rows["train"]):
            log.warning(
                "fold %d has %d of %d training rows: near duplicates and groups stay together. Their texts are scored "
                "by a model of the few others, unlike those of later rows, so that the models trust texts too little",
                *(number, size, len(rows["train"])),
            )
    record = chain.run(WHOLE, {**base, "name": WHOLE})
    for later in ("validation", "test"):
        _fill(scores, rows[later], record, later, positive)
    if missing := int(np.isnan(scores).sum()):
        raise UserError(
            f"{chain.folder}: {missing} of {len(scores)} texts have no score. The configuration leaves rows out, "
            "by its budget or its data"
        )
    return scores


def _of_texts(config: Mapping[str, Any], folder: Path, grouped: bool) -> dict[str, Any]:
    """Return the configuration with the texts as its data."""
    rows = {"_target_": _path(TextRows), "text": "text", "label": "label", "pair": None, "weight": None}
    data = {
        **config["data"],
        "path": None,
        "source": {
            "_target_": _path(FilesSource),
            "path": str(folder.absolute()),
            "licence": config["data"]["source"].get("licence"),
        },
        "splits": {name: f"{name}.jsonl" for name in SPLITS},
        "format": {"_target_": _path(RowFiles), "rows": {**rows, "group": "group" if grouped else None}},
    }
    return {**config, "data": data, "run_dir": None, "existing": "auto"}


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _fill(scores: np.ndarray, rows: np.ndarray, record: RunRecord, split: str, positive: str) -> None:
    """Put what a run predicts of a split where its rows are."""
    file = record.folder / "predictions" / f"{split}.jsonl"
    if not file.is_file():
        raise UserError(f"{file}: is missing; a scorecard needs what the run predicts of {split}")
    for answer in each_prediction(file):
        probability = (answer.get("probabilities") or {}).get(positive)
        if probability is None:
            raise UserError(
                f"{file}: has no probability of '{positive}'. Take a task that gives one for every label, such as "
                "task=classification with task.top_k=null"
            )
        scores[rows[int(answer["id"].rpartition(":")[2])]] = log_odds(probability)


def log_odds(probability: float) -> float:
    """Return the log odds of a probability, finite ones for 0 and 1, too."""
    return float(logit(min(max(probability, LEAST), 1 - LEAST)))
