"""The story of one run: a configuration goes in, a record comes out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from peftlab import backbone, run_folder
from peftlab.backbone import Pretrained, head_of
from peftlab.callbacks.cost import Cost
from peftlab.callbacks.interruption import Interruption
from peftlab.callbacks.keep_best import KeepBest
from peftlab.callbacks.predictions import Predictions
from peftlab.config import RunSpec, resolve, validate
from peftlab.console import start_logging
from peftlab.data.module import DataModule
from peftlab.exits import Signals
from peftlab.hardware import describe_hardware
from peftlab.methods.method import MethodContext
from peftlab.record import RunRecord, code_state, environment, identity
from peftlab.run_folder import RunFolder
from peftlab.tensor_files import load_into, save
from peftlab.tuner import Tuner

log = logging.getLogger("peftlab")

TASK_TYPES = {"token-classification": "TOKEN_CLS"}
"""What the peft library calls each head."""


def run(cfg: DictConfig, command: Sequence[str] = (), overrides: Sequence[str] = ()) -> RunRecord:
    """Train, test and record what `cfg` describes.

    Args:
        cfg: the composed configuration, see ``conf/config.yaml``.
        command, overrides: how it was asked for, for the record.

    Raises:
        UserError: the configuration, a source or the data cannot be used; nothing has been written then.
    """
    start_logging()
    cost = Cost()
    with Signals() as signals:
        config = resolve(cfg)
        spec = validate(config)
        seed_everything(spec)

        pretrained = backbone.fetch(spec.model)
        data = DataModule(spec.data, spec.task, pretrained.tokenizer(), spec.budget, spec.seed)
        data.load()
        tuner = build_tuner(spec, pretrained)

        config["data"] |= data.resolved()
        started = run_folder.start(
            config,
            spec.run_name,
            identity(config, data.sha256, pretrained.weights_sha256),
            command=command,
            overrides=overrides,
            **describe(spec, data, tuner),
        )
        if isinstance(started, RunRecord):
            return started
        folder, record = started
        with folder.recording(record):
            loggers = [make(save_dir=folder.path) for make in spec.logger.values() if make is not None]
            train(spec, tuner, data, loggers, folder, record, cost, signals)
            load_into(spec.peft.trained(tuner.model), folder.best)
            evaluate(spec, tuner, data, loggers, folder, record)
            record.update(method={"adapter_bytes": spec.peft.save(tuner.model, folder.adapter, tuner.context)})
            record.update(cost=cost.totals())
        conclude(record)
    return record


def seed_everything(spec: RunSpec) -> None:
    """Seed all random generators, before anything random is built, and settle what bits depend on."""
    L.seed_everything(spec.seed, workers=True, verbose=False)
    if spec.trainer.threads is not None:
        torch.set_num_threads(spec.trainer.threads)


def build_tuner(spec: RunSpec, pretrained: Pretrained) -> Tuner:
    """Load the backbone with the task's head, apply the method, and wrap both for training."""
    model = pretrained.backbone(spec.task)
    context = MethodContext(head_of(model), TASK_TYPES[spec.task.head], pretrained.origin)
    if spec.trainer.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = spec.peft.apply(model, context)
    return Tuner(model, spec.task, spec.peft, context, spec.optimizer, spec.scheduler)


def train(
    spec: RunSpec,
    tuner: Tuner,
    data: DataModule,
    loggers: list[Logger],
    folder: RunFolder,
    record: RunRecord,
    cost: Cost,
    signals: Signals,
) -> None:
    """Fit, keeping the best checkpoint in `folder` and the costs in `record`."""
    best = KeepBest(spec.task.selection, folder.best, record)
    chosen = [callback for callback in spec.callbacks.values() if callback is not None]
    trainer = make_trainer(spec, [cost, *chosen, best, Interruption(signals)], loggers, data)
    try:
        trainer.fit(tuner, data)
        if best.validated_step < trainer.global_step:  # the budget ended between two validations
            trainer.validate(tuner, data, verbose=False)
    except BaseException:
        save(spec.peft.trained(tuner.model), folder.last)
        raise
    finally:
        record.update(cost=cost.totals())
    if best.value is None:
        raise RuntimeError(f"no validation gave a {spec.task.selection.metric} that is a number: nothing was learnt")


def evaluate(
    spec: RunSpec, tuner: Tuner, data: DataModule, loggers: list[Logger], folder: RunFolder, record: RunRecord
) -> None:
    """Score the model as it is on validation and test, and keep every prediction."""
    trainer = make_trainer(spec, [Predictions(folder.predictions)], loggers, data)
    evaluations = {"validation": trainer.validate, "test": trainer.test}
    for split in ("validation", "test") if spec.budget.test else ("validation",):
        evaluations[split](tuner, data, verbose=False)
        metric = tuner.scores[split]
        scores = spec.task.details(metric) | {"loss": float(trainer.callback_metrics[f"{split}/loss"])}
        for name, value in scores.items():
            record.add_metric(name, split, value, "best", spec.task.scorer)
        log.info("\n%s, best checkpoint (%s)\n%s\n", split, spec.task.scorer, spec.task.report(metric))


def make_trainer(spec: RunSpec, callbacks: list[Callback], loggers: list[Logger], data: DataModule) -> L.Trainer:
    """Return a Lightning trainer for this hardware and budget; checkpoints, bars and tables are ours."""
    trainer, budget = spec.trainer, spec.budget
    return L.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        precision=trainer.precision,
        accumulate_grad_batches=trainer.accumulate,
        gradient_clip_val=trainer.clip_norm,
        deterministic=trainer.deterministic,
        max_epochs=budget.max_epochs or -1,
        max_steps=budget.max_steps or -1,
        callbacks=callbacks,
        logger=loggers,
        log_every_n_steps=trainer.log_every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **data.validation_interval(),
    )


def describe(spec: RunSpec, data: DataModule, tuner: Tuner) -> dict[str, Any]:
    """Return the sections of the record that are known before training."""
    return {
        "code": code_state(),
        "data": data.describe(),
        "method": {"name": spec.peft.name, **spec.peft.count(tuner.model)},
        "environment": environment(
            **describe_hardware(),
            precision=spec.trainer.precision,
            deterministic=spec.trainer.deterministic,
            nondeterministic_parts=[],
            seeds={"global": spec.seed},
        ),
    }


def conclude(record: RunRecord) -> None:
    """Say what came out."""
    method, cost, selection = (record.data[section] for section in ("method", "cost", "selection"))
    for split in ("validation", "test"):
        for metric in record.data["metrics"]:
            if metric["split"] == split and metric["name"] == selection["metric"]:
                log.info("%s %s: %.4f (%s)", split, metric["name"], metric["value"], metric["scorer"])
    share = method["trainable_parameters"] / method["total_parameters"]
    log.info(
        "parameters: %s trainable of %s (%.2f %%)",
        f"{method['trainable_parameters']:,}",
        f"{method['total_parameters']:,}",
        100 * share,
    )
    log.info(
        "time: %.0f s, %.0f s of them training at %.0f samples/s; peak memory %.2f GiB",
        cost["wall_seconds"],
        cost["train_seconds"],
        cost["samples_per_second"],
        cost["peak_memory_gib"],
    )
    log.info("run folder: %s", record.folder)
