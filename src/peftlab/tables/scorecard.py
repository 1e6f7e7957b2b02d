"""A scorecard: from a table with texts to a model that is kept, and to what it is worth.

The story of `build`: rows -> splits -> scores of the texts, out of fold -> models of the columns, of the text and of
both, of which the validation rows choose -> probabilities and a cut-off -> the test rows judge.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.chains.chain import Chain
from peftlab.errors import ConfigError, DataError, did_you_mean
from peftlab.reading.json_form import finite
from peftlab.scores.ordering import auc
from peftlab.storage.atomic import replacing
from peftlab.tables import judging
from peftlab.tables.applications import Applications, Named, read_applications
from peftlab.tables.columns import Category, Columns, alike, is_number, kinds_of
from peftlab.tables.fitting import BOTH, Rows, chosen, fitted
from peftlab.tables.kept import MOST_COMPARED, Kept
from peftlab.tables.out_of_fold import WHOLE, composed, text_scores
from peftlab.tables.periods import SPLITS
from peftlab.tables.reasons import TEXT
from peftlab.tables.settings import Settings
from peftlab.tables.stability import SUSPECT

log = logging.getLogger("peftlab")

KIND = "scorecard"
"""The kind of its chain."""

FILE = "scorecard.json"
"""The file with every number of the report."""

FEWEST = 10
"""Rows of either outcome without which a split shows nothing."""


def build(folder: Path, settings: Settings, command: Sequence[str] = ()) -> dict[str, Any]:
    """Build a scorecard in a folder, or go on with it where it stopped, and return what it is worth.

    The folder then has the runs, ``model.json`` and ``scorecard.json``.

    Args:
        folder: of the scorecard.
        settings: the choices behind it.
        command: the command line, for the records of its runs.

    Raises:
        UserError: the configuration or the table cannot be used.
    """
    config = composed(settings.overrides, settings.config_dir)
    seed: int = config["seed"]
    table = read_applications(Path(config["data"]["path"]), Named.of_format(config["data"]["format"], settings.time))
    used = used_columns(table, settings)
    split = table.split(settings.validation, settings.test, seed)
    positive = _positive(table, settings.positive)
    y = np.array(table.names(table.named.label)) == positive
    _check_outcomes(y, split, positive)
    numeric, categorical = _kinds(table, used, split, settings.categorical)
    of_runs = {key: getattr(settings, key) for key in ("time", "validation", "test", "folds")}
    of_runs |= {"overrides": list(settings.overrides), "table_sha256": table.sha256, **asdict(table.named)}
    if settings.config_dir is not None:
        of_runs["config_dir"] = settings.config_dir
    with Chain(folder, KIND, of_runs, tuple(command)) as chain:
        texts = text_scores(chain, config, table, split, settings.folds, positive)
        splits: dict[str, Rows] = {name: _rows(table, np.flatnonzero(split == name), y, texts) for name in SPLITS}
        train, test = splits["train"], splits["test"]
        models = fitted(splits, numeric, categorical, settings.calibration)
        best = {name: chosen(of) for name, of in models.items()}
        ours = best[BOTH]
        compared = np.random.default_rng(seed).permutation(len(train.y))[:MOST_COMPARED]
        whole = chain.stage(WHOLE)
        assert whole is not None
        kept = Kept(
            positive=positive,
            text=table.named.text,
            run={key: whole[key] for key in ("folder", "identity")},
            columns=ours.columns,
            kind=ours.kind,
            model=ours.model,
            calibrator=ours.calibrator,
            cut_off=settings.refused_from,
            background=ours.matrix(train)[np.sort(compared)],
        )
        where = np.flatnonzero(split == "test")
        clusters = _clusters(table, where)
        probabilities = ours.calibrator.probabilities(ours.margins(test))
        stable = judging.stability(
            splits, {**dict.fromkeys(numeric, True), **dict.fromkeys(categorical, False), TEXT: True}
        )
        document = {
            "schema_version": 1,
            "positive": positive,
            "splits": _periods(table, split, y),
            "columns": {"numeric": numeric, "categorical": categorical, "left_out": _left_out(table, used, settings)},
            "compared": [
                {"reads": name, "kind": one.kind, "chosen": one is best[name], "validation_auc": one.validation_auc}
                | {"test_auc": auc(one.margins(test), test.y)}
                for name, of in models.items()
                for one in of
            ],
            "text_auc": {name: auc(texts[split == name], y[split == name]) for name in SPLITS},
            **judging.scored(best, test, clusters, seed),
            "refused_from": kept.cut_off,
            "cut_offs": judging.cut_offs(probabilities, test.y, kept.cut_off, settings.loss, settings.gain),
            "gaps": judging.group_gaps(
                probabilities < kept.cut_off,
                test.y,
                {name: table.names(name, where) for name in settings.groups},
                clusters,
                seed,
            ),
            "stability": stable,
            "suspects": [
                one["column"] for one in stable if one["column"] != TEXT and (one["auc_alone"] or 0) > SUSPECT
            ],
            "unknown_categories": ours.columns.unknown(test.cells),
            **judging.explained(kept, ours, test, seed),
            "settings": settings.as_json(),
        }
        kept.write(folder)
        with replacing(folder / FILE) as temporary:
            temporary.write_text(json.dumps(finite(document), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in document["suspects"]:
        log.warning(
            "'%s' alone has an AUC above %g on the validation rows: is it known only after granting? If so, "
            "--after-granting %s",
            name,
            SUSPECT,
            name,
        )
    return document


def used_columns(table: Applications, settings: Settings) -> list[str]:
    """Return the columns that the models read beside the text.

    Raises:
        DataError: a column that an option names is not in the table.
        ConfigError: none is left, or a column among the categorical ones is not read.
    """
    for option, names in (
        ("--columns", settings.columns or ()),
        ("--categorical", settings.categorical),
        ("--after-granting", settings.after_granting),
        ("--groups", settings.groups),
    ):
        table.check(option, names)
    apart = {*settings.after_granting, *settings.groups}
    used = list(settings.columns or [name for name in table.columns if name not in apart])
    if not used:
        raise ConfigError(
            "--columns: the table has no column beside text and label; for texts alone, peftlab train is enough"
        )
    if idle := [name for name in settings.categorical if name not in used]:
        raise ConfigError(f"--categorical {idle[0]}: is not among the columns that are read: {', '.join(used)}")
    return used


def _kinds(
    table: Applications, used: Sequence[str], split: np.ndarray, asked: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the columns of numbers and those of categories, before any text is read.

    Raises:
        DataError: a column has no value in the training rows, or a later row something else than a number.
    """
    train, places = table.part(np.flatnonzero(split == "train"))
    numeric, categorical = kinds_of(train, used, asked)
    columns = Columns.learnt(train, numeric, categorical, places)
    columns.matrix(table.rows, table.places)
    for part in columns.parts:
        if part.name not in numeric and part.name not in asked:
            odd = [place for row, place in zip(train, places, strict=True) if not is_number(row[part.name])]
            if 2 * len(odd) < len(train):
                log.warning(
                    "'%s' is read as categories, for %d of its %d training rows hold no number, such as %s. Mend or "
                    "empty these cells; or --categorical %s",
                    *(part.name, len(odd), len(train), odd[0], part.name),
                )
        if isinstance(part, Category):
            for names in alike(part.values):
                log.warning(
                    "'%s' has the categories %s, which are one number and count as %d. Write it in one way, or leave "
                    "them, if they are different codes",
                    *(part.name, " and ".join(names), len(names)),
                )
        if part.name in categorical and part.width == 1:
            log.warning("'%s' tells the models nothing: no two training rows have the same value", part.name)
    return numeric, categorical


def _positive(table: Applications, asked: str | None) -> str:
    labels = sorted(set(table.names(table.named.label)))
    if len(labels) != 2:
        raise DataError(
            f"'{table.named.label}' has {len(labels)} different values ({', '.join(labels[:5])}); a scorecard "
            "forecasts one of two. Remove the rows whose outcome is not known yet"
        )
    if asked is not None and asked not in labels:
        raise ConfigError(f"--positive {asked}: is no label.{did_you_mean(asked, labels)} Labels: {', '.join(labels)}")
    return asked or labels[-1]


def _check_outcomes(y: np.ndarray, split: np.ndarray, positive: str) -> None:
    for name in SPLITS:
        happened = int(y[split == name].sum())
        rows = int((split == name).sum())
        if min(happened, rows - happened) < FEWEST:
            raise DataError(
                f"{name}: {happened} of {rows} rows are '{positive}'; a split needs {FEWEST} rows of either outcome. "
                "Take larger shares with --validation and --test, or more rows"
            )


def _rows(table: Applications, where: np.ndarray, y: np.ndarray, texts: np.ndarray) -> Rows:
    rows, places = table.part(where)
    return Rows(
        [{**row, TEXT: score} for row, score in zip(rows, texts[where].tolist(), strict=True)], places, y[where]
    )


def _clusters(table: Applications, where: np.ndarray) -> np.ndarray | None:
    if table.named.group is None:
        return None
    clusters: np.ndarray = np.unique(np.array(table.names(table.named.group, where)), return_inverse=True)[1]
    return clusters


def _periods(table: Applications, split: np.ndarray, y: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return the size of each split, how often the label came true, and its first and last date."""
    found: dict[str, dict[str, Any]] = {}
    for name in SPLITS:
        where = np.flatnonzero(split == name)
        found[name] = {"rows": len(where), "positive": int(y[where].sum()), "from": None, "to": None}
        if table.named.time is not None:
            dates = sorted(str(cell) for cell in table.cells(table.named.time, where))
            found[name] |= {"from": dates[0], "to": dates[-1]}
    return found


def _left_out(table: Applications, used: Sequence[str], settings: Settings) -> dict[str, list[str]]:
    """Return the columns that the models do not read, by the reason."""
    reasons: Mapping[str, Sequence[str]] = {
        "known only after granting": settings.after_granting,
        "of groups": settings.groups,
        "not named": table.columns,
    }
    left = [name for name in table.columns if name not in used]
    found: dict[str, list[str]] = {}
    for name in left:
        reason = next(reason for reason, names in reasons.items() if name in names)
        found.setdefault(reason, []).append(name)
    return found
