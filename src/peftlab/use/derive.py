"""Runs that are not trained but computed from finished ones: averaged, merged, made smaller.

Such a run is like any other. Its configuration is that of its first parent with another method, whose adapter holds the
weights, and with a section ``derived``; so its identity follows from the parents and from how they were combined. The
record's section ``derived`` names the parents.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from peftlab.assembly import build_tuner, refer, store_and_compile
from peftlab.config import validate
from peftlab.data.module import DataModule
from peftlab.data.static_shapes import StaticShapes
from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.one_run import describe, save_adapter
from peftlab.report.study import Run
from peftlab.report.two_models import PairedModels, paired_models
from peftlab.runs.conclusion import conclude
from peftlab.runs.derivation import SECTION
from peftlab.runs.find import readable_records
from peftlab.runs.identity import identity, run_id_of
from peftlab.runs.notice import joined
from peftlab.runs.record import RunRecord
from peftlab.runs.start import start
from peftlab.specs import build
from peftlab.storage.digests import canonical_json
from peftlab.terminal.signals import Signals
from peftlab.training.cost import Cost
from peftlab.training.final_scores import evaluate
from peftlab.training.predictions import Predictions
from peftlab.use.evaluate import check_digests, computing_as, trainer_for
from peftlab.use.finished import FinishedRun, load

log = logging.getLogger("peftlab")


@restored()
def derive(
    parents: Sequence[FinishedRun],
    *,
    by: str,
    how: Mapping[str, Any],
    peft: Mapping[str, Any],
    fill: Callable[[nn.Module], Mapping[str, Mapping[str, Any]] | None],
    name: str | None = None,
    root: Path | None = None,
) -> FinishedRun:
    """Make a completed run of a model computed from `parents`, scored as runs are, and return it.

    If this very model was computed before, the run from then is returned.

    Args:
        parents: the runs; the model has the backbone, the task and the data of the first one.
        by: the command that computes it, such as ``ensemble``.
        how: the options that decide the result, as JSON values.
        peft: the section of the configuration for the method; without a learning rate, that of the first parent.
        fill: puts the weights into the model, to which the method has been applied, in evaluation mode; what it
            returns are sections for the record.
        name: the name of the run; None: that of the first parent and the method's.
        root: the folder of the folders of runs, by name; None: ``runs/``.

    Raises:
        UserError: the data is not what the parents were scored on, or the method does not suit the model.
    """
    first = parents[0]
    if first.spec.task.refers and first.spec.adapter is not None:
        raise UserError(
            f"{first.folder.path}: task={first.spec.task.name} compares the model with the one that training started "
            f"from, which had an adapter of its own: `peftlab {by}` does not keep it"
        )
    config = _config(parents, by, how, peft)
    config["name"] = name = name or _default_name(first, config["peft"]["name"])
    recorded = first.record.data["identity"]
    own = identity(config, recorded["data_sha256"], recorded["weights_sha256"])
    folder = (root or Path("runs")) / name / run_id_of(own)
    if _is_finished(folder, own):
        log.info("this very model was computed before: %s", folder)
        return load(folder, first.folder.allow)
    cost = Cost()
    own_keys = ("name", "model", "peft", "adapter", SECTION)
    spec = validate({**first.config_here, **{key: config[key] for key in own_keys}})
    spec.task.learn_labels({"train": []}, spec.data.labels)
    threads = first.record.data["environment"]["threads"]
    with Signals() as signals, computing_as(spec, threads):
        data = DataModule(spec.data, spec.task, first.processor, spec.budget, spec.seed)
        data.load()
        check_digests(first, data, spec.budget.scored)
        pretrained = replace(first.pretrained, spec=spec.model)  # whose layers may be quantised no longer
        tuner = build_tuner(spec, pretrained).eval()
        told = fill(tuner.model) or {}
        if spec.trainer.static_shapes:
            data.static = StaticShapes(first.max_tokens(tuner.model))
        sections = {**describe(spec, data, tuner), "command": ["peftlab", by], "overrides": []}
        signals.hold = True  # from here on a record exists, which must say how the run ended
        begun = start({**config, "run_dir": str(folder), "existing": "auto"}, name, own, **sections)
        signals.hold = False
        if begun.finished:  # by another process meanwhile
            return load(folder, first.folder.allow)
        with begun.recording(cost.totals) as record:
            record.extend(SECTION, _section(parents, by, how, folder))
            if spec.data.aside is not None:
                record.extend(SECTION, {"held_out": list(spec.data.aside.names)})
            for own_section, entries in told.items():
                record.extend(own_section, entries)
            store_and_compile(tuner.to(first.device).model, spec.trainer)
            refer(spec, pretrained, data, spec.budget.scored)
            trainer = trainer_for(spec, [cost, Predictions(begun.predictions)])
            began = time.perf_counter()
            evaluate(trainer, tuner, data, begun)
            record.extend(SECTION, {"scored_seconds": round(time.perf_counter() - began, 3)})
            selection = spec.task.selection
            value = record.score("validation", selection.metric)
            chosen = {"metric": selection.metric, "split": "validation", "mode": selection.mode, "value": value}
            record.update(selection=chosen)
            if spec.out_of_scope is not None:
                log.warning("out_of_scope: a derived run learns no threshold: its answers do not say what is in scope")
            record.update(method={"adapter_bytes": save_adapter(spec, pretrained, tuner, begun)})
            record.update(cost=cost.totals())
            conclude(record)
    return load(folder, first.folder.allow)


def derived_before(
    parents: Sequence[FinishedRun],
    by: str,
    how: Mapping[str, Any],
    method: str,
    name: str | None = None,
    root: Path | None = None,
) -> FinishedRun | None:
    """Return the completed run that was derived so, which spares fitting its options again; None: there is none.

    Arguments are those of `derive`; `method` is the name in its `peft`.
    """
    folder = (root or Path("runs")) / (name or _default_name(parents[0], method))
    asked = [by, canonical_json(dict(how)), [run.record.data["identity"]["sha256"] for run in parents]]
    for record in readable_records(sorted(folder.iterdir()) if folder.is_dir() else []):
        if record.data["status"] == "completed" and (made := record.derived) is not None:
            of_parents = [parent["identity"] for parent in made["parents"]]
            if [made["by"], canonical_json(made["how"]), of_parents] == asked:
                log.info("this very model was computed before: %s", record.folder)
                return load(record.folder, parents[0].folder.allow)
    return None


def against(run: FinishedRun, other: FinishedRun) -> PairedModels:
    """Compare the test answers of `other` with those of `run`, example by example, see `paired_models`.

    The difference is the score of `other` minus that of `run`.

    Raises:
        UserError: they cannot be compared; says why.
    """
    first, second = (Run(one.record, str(one.folder.path)) for one in (run, other))
    try:
        return paired_models(first, second)
    except ValueError as error:
        raise UserError(f"{second.place} cannot be compared with {first.place}: {error}") from error


def _config(parents: Sequence[FinishedRun], by: str, how: Mapping[str, Any], peft: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the run."""
    config = parents[0].config
    section = {"learning_rate": config["peft"]["learning_rate"], **peft}
    model = config["model"]
    if build(section, "peft").rewrites is not None:  # its weights are in full precision, in its adapter
        model = {**model, "quantize": "none"}
    derived = {"by": by, "how": dict(how), "parents": [one.record.data["identity"]["sha256"] for one in parents]}
    of_training: dict[str, Any] = {"regularizer": {}, "augment": {}, "semi": None, "callbacks": {}, "logger": {}}
    own = {"model": model, "peft": section, "adapter": None, SECTION: derived}
    notice = joined([one.notice for one in parents])
    return {**config, **of_training, **own, **({} if notice is None else {"notice": notice})}


def _default_name(first: FinishedRun, method: str) -> str:
    return f"{first.record.data['name']}-{method}"


def _is_finished(folder: Path, own: Mapping[str, Any]) -> bool:
    """Return whether `folder` holds the completed run of this identity."""
    records = readable_records([folder]) if folder.is_dir() else []
    return any(one.data["status"] == "completed" and one.data["identity"] == own for one in records)


def _section(parents: Sequence[FinishedRun], by: str, how: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the record's section."""
    return {"by": by, "how": dict(how), "parents": [_parent(one.record, folder) for one in parents]}


def _parent(record: RunRecord, folder: Path) -> dict[str, Any]:
    """Describe a parent of the run in `folder`."""
    return {
        "id": record.data["run_id"],
        "name": record.data["name"],
        "folder": os.path.relpath(record.folder, folder),
        "identity": record.data["identity"]["sha256"],
        "method": record.data["method"]["name"],
        "seed": record.data["environment"]["seeds"].get("global"),
        "device_seconds": record.device_seconds(),
    }
