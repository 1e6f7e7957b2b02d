"""The story of one run: a configuration goes in, a record comes out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from peftlab import no_effect
from peftlab.abstaining.learning import Reader, check_texts, learn_scope
from peftlab.assembly import (
    adopt,
    build_tuner,
    calibrate,
    check_monitors,
    check_trained,
    counts_activations,
    divide_units,
    draw_batches,
    make_private,
    make_trainer,
    recording,
    refer,
    settle_privacy,
    store_and_compile,
)
from peftlab.config import RunSpec, resolve, validate
from peftlab.data.augmentation.augmenter import Augmenter
from peftlab.data.batching import Division
from peftlab.data.module import AHEAD, DataModule
from peftlab.data.static_shapes import StaticShapes
from peftlab.devices import openmp
from peftlab.devices.hardware import describe_hardware, nondeterministic_parts
from peftlab.devices.processes import agreed, check_rank, from_rank_0, rank, threads_each, together
from peftlab.devices.products import set_products
from peftlab.devices.sharding import is_sharded
from peftlab.errors import DamagedError, UserError
from peftlab.federated.joining import divide, joined
from peftlab.federated.local import LocalTraining
from peftlab.federated.workers import ignore_signals, serve
from peftlab.imports import find_here
from peftlab.masking.mask import remember
from peftlab.methods.labels import save_labels
from peftlab.models import backbone
from peftlab.models.backbone import Pretrained
from peftlab.models.positions import check_length, longest_row
from peftlab.packing.joinable import never_joined
from peftlab.packing.pack import Seat
from peftlab.privacy.guarantee import Guarantee
from peftlab.regularizing import check_regularizers, prepared_regularizers, set_up_terms
from peftlab.runs.conclusion import conclude
from peftlab.runs.decisions import save_decisions
from peftlab.runs.environment import code_state, environment
from peftlab.runs.folder import RunFolder
from peftlab.runs.identity import Sources
from peftlab.runs.record import RunRecord
from peftlab.runs.start import elsewhere, start
from peftlab.seams.transformers import attention_of
from peftlab.semi_supervised.joining import join
from peftlab.specs import packages_of
from peftlab.speed.activation_cache import choose_border, from_activations
from peftlab.speed.attention import attention_kernels
from peftlab.storage.disk import writing
from peftlab.storage.entries import is_plain_folder, own_folder
from peftlab.storage.tensors import load_into
from peftlab.terminal.console import console, start_logging
from peftlab.terminal.signals import Signals
from peftlab.terminal.streams import lasting_output
from peftlab.training.break_even import BreakEven
from peftlab.training.checkpointing import fault_of, has_begun, unfit
from peftlab.training.cost import Cost
from peftlab.training.effects import Effects
from peftlab.training.final_scores import evaluate
from peftlab.training.guards import Guards
from peftlab.training.keep_best import KeepBest
from peftlab.training.labels_used import begin
from peftlab.training.memory import Memory
from peftlab.training.non_finite import UNREAD
from peftlab.training.outlook import Outlook
from peftlab.training.reporting import Watcher
from peftlab.training.scoring import is_last_validation
from peftlab.training.tracking import Tracking
from peftlab.training.trail import Trail
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")


@dataclass(frozen=True)
class Prepared:
    """The checked inputs of a run: all that decides its result."""

    config: dict[str, Any]
    """The resolved configuration."""
    spec: RunSpec
    pretrained: Pretrained
    data: DataModule
    sources: Sources
    identity: dict[str, Any]
    """The identity section of the record."""
    guarantee: Guarantee | None = None
    """The differential privacy of its training; None: it has none."""


def prepare(cfg: DictConfig | Mapping[str, Any]) -> Prepared:
    """Resolve and validate `cfg`, seed everything, and read model files and data; nothing is written.

    Raises:
        UserError: the configuration, a source or the data cannot be used.
    """
    return read(*settle(cfg))


def settle(cfg: DictConfig | Mapping[str, Any]) -> tuple[dict[str, Any], RunSpec]:
    """Return `cfg` resolved, and validated; from now on its secrets are masked in messages.

    Raises:
        UserError: the configuration cannot be used.
    """
    config = resolve(cfg)
    remember(config)
    spec = validate(config)
    if spec.derived is not None:
        spec.derived.refuse_training()
    return config, spec


def read(config: dict[str, Any], spec: RunSpec) -> Prepared:
    """Seed everything, read model files and data, and complete the resolved `config`.

    Raises:
        UserError: a source or the data cannot be used.
    """
    check_rank(spec.trainer)
    seed_everything(spec)
    pretrained = backbone.fetch(spec.model, spec.task)
    division = Division(spec.trainer.world_size, rank(), spec.trainer.accumulate)
    processor = pretrained.processor(spec.task.processor)
    embeddings = partial(pretrained.input_embeddings, spec.task)
    augmenter = (
        Augmenter(spec.augmenting, spec.task, processor, spec.data.limits, spec.seed, embeddings)
        if spec.augmenting
        else None
    )
    data = DataModule(spec.data, spec.task, processor, spec.budget, spec.seed, division, augmenter, pretrained.backbone)
    data.keeps_rest = spec.semi is not None and spec.semi.off is None
    data.load()
    divide(spec.federated, data)
    divide_units(spec, data)
    guarantee = settle_privacy(spec, data)
    join(spec.semi, data, spec.steps(data.steps_of_epoch()), embeddings)
    sources = Sources(
        model=pretrained.resolved,
        data=data.facts.source,
        read=data.resolved(),
        task=data.resolved_task(),
        augment=data.resolved_augment(),
        regularizer=prepared_regularizers(spec, data, pretrained.weights_sha256),
        privacy={} if guarantee is None or spec.privacy is None else guarantee.settled(spec.privacy),
        data_sha256=data.facts.sha256,
        weights_sha256=pretrained.weights_sha256,
    )
    identity = sources.complete(config)
    draw_batches(spec, data, identity["sha256"])
    return Prepared(config, spec, pretrained, data, sources, identity, guarantee)


def build(ready: Prepared) -> Tuner:
    """Build the model to train, and check it against data and callbacks.

    Raises:
        UserError: the parts do not fit together.
    """
    tuner = build_tuner(ready.spec, ready.pretrained, log.info)
    adopt(ready.spec, tuner)
    check_length(tuner.model, ready.data.longest)
    ready.spec.task.check_model(tuner.model)
    if ready.spec.trainer.static_shapes and not ready.spec.task.packs:
        most = longest_row(tuner.model, ready.spec.data.max_tokens)
        ready.data.static = StaticShapes(most)
    if ready.spec.trainer.accelerator == "gpu":
        ready.data.ahead = AHEAD
    check_monitors(ready.spec, tuner)
    check_regularizers(ready.spec, tuner)
    check_trained(ready.spec, tuner)
    check_texts(ready.spec.out_of_scope, ready.data)
    set_up_terms(tuner)
    return tuner


def run(
    cfg: DictConfig | Mapping[str, Any],
    command: Sequence[str] = (),
    overrides: Sequence[str] = (),
    watcher: Watcher | None = None,
    seat: Seat | None = None,
) -> RunRecord:
    """Train, test and record what `cfg` describes.

    On several devices every process calls this; only rank 0 has a run folder and writes.

    Args:
        cfg: the composed configuration, see ``conf/config.yaml``, or the resolved one of a run, in plain values.
        command: the command line, for the record.
        overrides: the overrides on the command line, for the record.
        watcher: follows the progress of the run, and may end it.
        seat: its place in a pack of runs; None: it is alone in its process.

    Raises:
        Pruned: the watcher ended the run; the record says so.
        UserError: the configuration, a source or the data cannot be used; nothing has been written.
    """
    first = rank() == 0
    start_logging(level=logging.INFO if first else logging.ERROR)
    cost = Cost()
    with Signals() as signals, lasting_output(console.lose):
        ready = prepare(cfg)
        config, spec, pretrained, data = ready.config, ready.spec, ready.pretrained, ready.data
        tuner = build(ready)
        no_effect.tell(spec, data, tuner)
        store_and_compile(tuner.model, spec.trainer)
        border = choose_border(spec.trainer, tuner.model, data, spec.needing_all_layers)
        config["model"]["attention"] = attention_of(tuner.model)
        config["trainer"]["cache_activations"] = border is not None
        sections = {**describe(spec, data, tuner), "command": command, "overrides": overrides}
        signals.hold = True  # from here on a record exists, which must say how the run ended
        folder = (
            start(config, spec.run_name, ready.identity, **sections)
            if first
            else elsewhere(spec.run_name, ready.identity, **sections)
        )
        if agreed(folder.finished, spec.trainer):
            return folder.record
        with (
            Tracking(spec.logger) as tracking,
            folder.recording(cost.totals, spec.trainer.keep_every) as record,
            together(spec.trainer, record, signals),
            attention_kernels(spec.trainer.cudnn_attention, spec.trainer.static_shapes is True),
        ):
            fits = partial(fault_of, unfit=partial(unfit, run=ready.identity["sha256"], weights=tuner.trained()))
            begin(record, data, spec.callbacks.values(), spec.steps(data.steps_of_epoch()))
            checkpoint = from_rank_0(folder.resume(spec.trainer.sharded, fits))
            loggers = tracking.start(record, config)
            halve = data.halves if spec.may_cut_batches else None
            tuner.guards = Guards(
                spec.trainer.on_nan, halve, record.event, 1 if spec.privacy else UNREAD[spec.trainer.accelerator]
            )
            tuner.recording = recording(spec, record.event)
            recorded = from_rank_0(record.extensions.get("regularizers"))  # the ranks sum what is not recorded yet
            tuner.effects = Effects(spec.acting, recorded, partial(record.extend, "regularizers"))
            memory = Memory([tuner.guards.training, tuner.guards.evaluation], record)
            best = KeepBest(spec.task.selection, folder.best, record, spec.budget.select == "last")
            outlook = Outlook(spec.trainer, data, record, seat is None and counts_activations(spec))
            own: list[Callback] = [
                *(cost, Trail(folder.trail, spec.trainer.trail_every), best, memory, outlook),
                *make_private(spec, tuner, data, ready.guarantee, record),
            ]
            if spec.trainer.compile:
                own.append(BreakEven(record))
            if seat is not None:
                own.append(seat.take(tuner, record, never_joined(spec, border is not None)))
            trainer = make_trainer(spec, data, folder, own, signals, loggers, watcher)
            refer(spec, pretrained, data, data.used, tuner.guards.evaluation, record.event, signals.raise_pending)
            if checkpoint is None and spec.adapter is None:
                calibrate(spec, tuner, data)
            with (
                from_activations(border, tuner.model, data, spec.trainer, record, signals.raise_pending),
                joined(spec, config, tuner, data, folder, signals.raise_pending, train_clients),
            ):
                fit(trainer, tuner, data, best, checkpoint)
                tuner.effects.after_training(trainer.global_step)
                known = best.is_last and is_last_validation(trainer) and spec.trainer.world_size == 1
                load_best(tuner, folder)
                evaluate(trainer, tuner, data, folder, validated=known and best.is_here, logged=known)
            if first:
                record.update(method={"adapter_bytes": save_adapter(spec, pretrained, tuner, folder, data)})
                learn_scope(spec.out_of_scope, Reader(tuner.model, data, spec.trainer), folder, spec.seed)
                record.update(cost=cost.totals())
                conclude(record)
    return record


def train_clients(config: dict[str, Any], threads: int, connection: Connection) -> None:
    """Train clients of the run of a resolved `config` as `connection` orders, in a process of its own."""
    ignore_signals()
    start_logging(level=logging.ERROR)
    torch.set_num_threads(threads)
    find_here(packages_of(config))  # the run's own process has found them there
    ready = prepare(config)
    tuner = build(ready)
    store_and_compile(tuner.model, ready.spec.trainer)
    halve = ready.data.halves if ready.spec.may_cut_batches else None
    tuner.guards = Guards(ready.spec.trainer.on_nan, halve, unread=UNREAD[ready.spec.trainer.accelerator])
    refer(ready.spec, ready.pretrained, ready.data, ["train"], tuner.guards.evaluation)
    assert ready.spec.federated is not None
    with attention_kernels(ready.spec.trainer.cudnn_attention, ready.spec.trainer.static_shapes is True):
        serve(LocalTraining(tuner, ready.data, ready.spec.federated, ready.spec.trainer), connection)


def resume(folder: Path, allow: Sequence[str] = ()) -> RunRecord:
    """Resume the unfinished run in `folder` with its own configuration, and return its record.

    It goes on with as many threads as before, unless ``OMP_NUM_THREADS`` is set: the last digits depend on them.

    Args:
        folder: the run folder.
        allow: the user's own packages whose classes that configuration may name.

    Raises:
        UserError: it is finished, another process is writing it, or its model or data is no longer available.
    """
    unfinished = RunFolder(RunRecord.load(folder), allow=allow)
    unfinished.record.check_trained("resume")
    if unfinished.record.data["status"] == "completed":
        raise UserError(
            f"{folder} is finished: there is nothing to resume. `peftlab evaluate` and `peftlab predict` use it, "
            "`peftlab reproduce` trains it again"
        )
    config = unfinished.read_config() | {"run_dir": str(folder), "existing": "resume"}
    if config["trainer"].get("threads") is None and openmp.threads_of(os.environ) is None:
        config["trainer"]["threads"] = unfinished.record.data["environment"]["threads"]
    return run(config, unfinished.record.data["command"], unfinished.record.data["overrides"])


def seed_everything(spec: RunSpec) -> None:
    """Seed all random generators, and set the threads and the precision of fp32 products, before anything is built."""
    L.seed_everything(spec.seed, workers=True, verbose=False)
    if spec.trainer.threads is not None:
        torch.set_num_threads(spec.trainer.threads)
    set_products(spec.trainer.tf32)


def fit(trainer: L.Trainer, tuner: Tuner, data: DataModule, best: KeepBest, checkpoint: Path | None) -> None:
    """Train to the end of the budget, from the beginning or from a checkpoint, and validate at the end.

    Raises:
        RuntimeError: no validation score is a number.
        DamagedError: the checkpoint cannot be loaded.
    """
    tuner.head_from = data if tuner.task.fits_head else None
    try:
        if trainer.max_steps:
            trainer.fit(tuner, data, ckpt_path=checkpoint)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if checkpoint is None or has_begun(trainer):
            raise
        raise DamagedError(
            f"{checkpoint} cannot be loaded ({type(error).__name__}: {error}). Remove it: the same command then "
            "resumes from the one before"
        ) from error
    if best.validated_step < trainer.global_step:  # the budget ended between two validations
        trainer.validate(tuner, data, verbose=False)
    if best.value is None:
        raise RuntimeError(f"no validation gave a {best.selection.metric} that is a number: nothing was learnt")


def load_best(tuner: Tuner, folder: RunFolder) -> None:
    """Load the weights of the best checkpoint.

    Raises:
        DamagedError: they are not the validated weights.
    """
    if rank() == 0 and (damage := folder.damage_of_best()) is not None:
        raise DamagedError(f"{damage} after its validation; the same command trains the run again")
    tuner.load_weights(folder.best)


def save_adapter(
    spec: RunSpec, pretrained: Pretrained, tuner: Tuner, folder: RunFolder, data: DataModule | None = None
) -> int:
    """Save the best checkpoint's trained parameters, which a method may try on `data` first; return their bytes."""
    if is_sharded(tuner.model):  # a method saves from an unsharded model
        tuner = build_tuner(spec, pretrained)
        adopt(spec, tuner)
        load_into(tuner.trained(), folder.best)
    spec.peft.conclude(tuner.model, data.calibration_batches() if data else ())
    tuner.eval()  # parameters that a network computes, such as prompts, are saved without dropout
    with writing(folder.adapter):
        for entry in own_folder(folder.adapter).iterdir():
            if not is_plain_folder(entry):  # left by an earlier attempt, or a link, which must not be written through
                entry.unlink()
        size = spec.peft.save(tuner.model, folder.adapter, tuner.context)
        save_labels(tuner.context.labels, folder.adapter)
        save_decisions(tuner.task.decisions, folder.adapter)
    return size


def describe(spec: RunSpec, data: DataModule, tuner: Tuner) -> dict[str, Any]:
    """Return the sections of the record that are known before training."""
    return {
        "code": code_state(),
        "data": data.describe(),
        "method": {"name": spec.peft.name, **spec.peft.count(tuner.model)},
        "environment": surroundings(spec),
    }


def surroundings(spec: RunSpec) -> dict[str, Any]:
    """Return the environment section of the record for a run of `spec` on this machine."""
    parts = nondeterministic_parts(spec.trainer)
    return environment(
        **describe_hardware(spec.trainer),
        threads=threads_each(spec.trainer),
        openmp_wait=openmp.waiting(os.environ),
        effective_batch_size=spec.data.batch_size,
        precision=spec.trainer.precision,
        deterministic=not parts,
        nondeterministic_parts=parts,
        seeds={"global": spec.seed},
    )
