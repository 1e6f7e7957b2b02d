"""A finished run in use: its model answers texts, is scored again, and is exported to plain transformers.

Scoring and exporting import their own dependencies, above all Lightning, when they are called.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedTokenizerBase

from peftlab.data.form import form_of
from peftlab.data.spec import DataSpec
from peftlab.data.static_shapes import StaticShapes
from peftlab.devices.spec import TrainerSpec
from peftlab.errors import DataError, SourceError, UserError
from peftlab.methods.adapter_files import ADAPTER_WEIGHTS
from peftlab.methods.labels import adapter_labels
from peftlab.methods.method import Method
from peftlab.models import backbone
from peftlab.models.adapted_model import adapted_model
from peftlab.models.backbone import ModelSpec
from peftlab.models.positions import longest_row
from peftlab.runs.decisions import SCOPE
from peftlab.runs.find import find
from peftlab.runs.folder import CONFIG, RunFolder
from peftlab.runs.notice import notice_of
from peftlab.runs.record import RunRecord
from peftlab.specs import build, check_names, prefixes_of
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Task
from peftlab.use.decisions import decisions_of, scope_of
from peftlab.use.predictor import Answer, Predictor, Refused
from peftlab.use.unchanged import check_unchanged, not_of_the_record
from peftlab.validation import checked

if TYPE_CHECKING:
    from peftlab.config import RunSpec
    from peftlab.use.auditing.measure import Audit
    from peftlab.use.differing.diff import Diff
    from peftlab.use.differing.diff import Settings as DiffSettings
    from peftlab.use.evaluate import Evaluation
    from peftlab.use.explanation.attribution import Settings as ExplainSettings
    from peftlab.use.explanation.explain import Explanation
    from peftlab.use.explanation.subject import Baseline
    from peftlab.use.export import Dtype, Exported
    from peftlab.use.fairness.measure import Fairness
    from peftlab.use.robustness.measure import Robustness
    from peftlab.use.robustness.perturbations import Settings

log = logging.getLogger("peftlab")


@dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class ModelParts:
    """The validated sections of a run's configuration that define its model."""

    model: ModelSpec
    data: DataSpec
    task: Task
    peft: Method
    trainer: TrainerSpec


def load(run: str | Path, allow: Sequence[str] = ()) -> FinishedRun:
    """Return the finished run in the folder `run`, or the one below ``runs/`` or ``sweeps/`` whose id starts with it.

    Args:
        run: its folder, or the start of its id.
        allow: your own packages whose classes its configuration may name: their code is run.

    Raises:
        UserError: there is no such run, it did not finish, or its base model is no longer available.
    """
    return FinishedRun(RunFolder(RunRecord.load(find(run)), allow=allow))


class FinishedRun:
    """A completed run and its model; see `load`.

    If the run used a GPU and there is none here, the model is used on the CPU in fp32.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.record = folder, folder.record
        if not (folder.adapter / ADAPTER_WEIGHTS).is_file():
            status = self.record.data["status"]
            raise UserError(
                f"{folder.adapter / ADAPTER_WEIGHTS}: there is no such file, though the run is completed: its model is "
                "lost. Put the file back, or train again with `peftlab reproduce`."
                if status == "completed"
                else f"{folder.path}: the run left no model: its status is '{status}', and only a completed run has "
                "one. `peftlab runs` shows which are."
            )
        self.config = folder.read_config(unused=("callbacks", "logger", "regularizer", "augment"))
        """The run's configuration; sections that only training uses may need packages that are not here."""
        check_unchanged(folder, self.config)
        self.config_here = _for_this_machine(self.config)
        """The same, for using the run here on one device, whatever it was trained on."""
        self.parts = _parts_of(self.config_here)
        self.parts.task.learn_labels({"train": []}, self.parts.data.labels)
        if (labels := adapter_labels(folder.adapter)) is not None and labels != self.parts.task.labels:
            raise UserError(not_of_the_record(folder, f"the labels in {CONFIG}", "those that the adapter has"))
        self.parts.task.decisions = decisions_of(folder, self.parts.task)
        self.scope = scope_of(folder)
        """What it has learnt of its scope; None: nothing."""
        self.pretrained = backbone.fetch(self.parts.model, self.parts.task)
        if self.pretrained.weights_sha256 != self.record.data["identity"]["weights_sha256"]:
            raise SourceError(f"{self.pretrained.folder}: is no longer the model that {folder.path} was trained on")

    @property
    def notice(self) -> str | None:
        """What everybody who uses the model is to be told; None: nothing."""
        return notice_of(self.config)

    @cached_property
    def spec(self) -> RunSpec:
        """The whole configuration, validated, for this machine and without callbacks and loggers."""
        from peftlab.config import validate

        spec = validate(self.config_here)
        spec.task.learn_labels({"train": []}, spec.data.labels)
        spec.task.decisions = self.parts.task.decisions
        if spec.data.aside is not None:
            told = self.record.extensions.get(SCOPE) or self.record.derived or {}
            spec.data.aside.names = tuple(told.get("held_out", ()))
        return spec

    @cached_property
    def predictor(self) -> Predictor:
        """The fine-tuned model in fp32, with all that it needs to answer texts."""
        return self.predictor_of(self.adapted())

    def predictor_of(self, model: nn.Module) -> Predictor:
        """Return `model` with all that it needs to answer texts as this run's own does."""
        parts = self.parts
        return Predictor(
            model=model,
            task=parts.task,
            processor=self.processor,
            form=form_of(parts.data.format),
            max_tokens=self.max_tokens(model),
            long=parts.data.long,
            batch_size=parts.data.eval_batch_size,
            precision=parts.trainer.precision,
            device=self.device,
            static=StaticShapes(self.max_tokens(model)) if parts.trainer.static_shapes else None,
            cudnn_attention=parts.trainer.cudnn_attention,
            tf32=parts.trainer.tf32,
            pooling=parts.model.pooling,
            initial=self.initial,
            scope=self.scope,
            masks=() if parts.data.mask_pii is None else (parts.data.mask_pii.masker(),),
        )

    @property
    def model(self) -> nn.Module:
        """Backbone, adapter and head, in fp32 and in evaluation mode."""
        return self.predictor.model

    @cached_property
    def processor(self) -> Processor:
        """The backbone's processor."""
        return self.pretrained.processor(self.parts.task.processor)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The backbone's tokenizer, for a run on texts."""
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return torch.device("cuda" if self.parts.trainer.accelerator == "gpu" else "cpu")

    def predict(self, texts: Sequence[str | Sequence[Any] | Mapping[str, Any]], **options: Any) -> list[Answer]:
        """Return the model's answer to each of `texts`, in the precision of the run.

        A text may be a list of words, if the task is one of words, a conversation, as a list of messages, or an object,
        such as ``{"text": ..., "text_pair": ...}``, whose keys may be those of the training data. Each answer has
        ``text``, ``words``, ``messages`` or the keys of the object, and the entries that `Task.reply` returns. If an
        object and its answer share a key, the object's value is kept as ``given_KEY``. Texts may be of any length: long
        ones are cut as in training, and the answer says which part was not seen, see `Task.lost`.

        Args:
            texts: the texts.
            options: for a task that generates, options of ``task.generate`` in place of the run's, such as
                ``max_new_tokens=64``.

        Raises:
            DataError: the task does not accept such objects, or the run was trained on pairs and this is none, or the
                other way round; names the first one by its index. `answers` continues instead.
            ConfigError: there is no such option.
        """
        if isinstance(texts, str | Mapping):
            raise TypeError("predict takes a list of texts: write predict([text])")
        answers = []
        for number, answer in enumerate(self.answers(texts, len(texts), **options)):
            if isinstance(answer, Refused):
                raise DataError(f"texts[{number}]: {answer.reason}") from answer.reason
            answers.append(answer)
        return answers

    def answers(self, objects: Iterable[Any], at_once: int = 1024, **options: Any) -> Iterator[Answer | Refused]:
        """Yield the answer to each of `objects`, or the reason why it has none, see `Predictor.answers`."""
        return self._generating(options).answers(objects, at_once)

    def stream(self, text: str | Sequence[Any] | Mapping[str, Any], **options: Any) -> Generator[str, None, bool]:
        """Yield the text that the model writes for one `text`, piece by piece; arguments as of `predict`.

        The pieces join to what `predict` returns. The generator returns whether the model ``stopped`` by itself.

        Raises:
            DataError: the task does not accept such an object.
            ConfigError: the task writes no text, or there is no such option.
        """
        return self._generating(options).stream(text)

    def _generating(self, options: Mapping[str, Any]) -> Predictor:
        return self.predictor.generating(options) if options else self.predictor

    def evaluate(
        self,
        data: str | Path | None = None,
        splits: Sequence[str] = (),
        threads: int | None = None,
        out: str | Path | None = None,
    ) -> Evaluation:
        """Score the model again, as the run itself did, see `peftlab.use.evaluate.evaluate`."""
        from peftlab.use.evaluate import evaluate

        return evaluate(self, data, splits, threads, out)

    def robustness(
        self,
        perturb: Sequence[str] | None = None,
        split: str = "test",
        limit: int | None = 500,
        settings: Settings | None = None,
        behaviour: str | None = None,
        sentiment_labels: Sequence[str] = (),
    ) -> Robustness:
        """Measure how the model holds up when its inputs change, see `peftlab.use.robustness.measure.robustness`."""
        from peftlab.use.robustness.measure import robustness

        return robustness(self, perturb, split, limit, settings, behaviour, sentiment_labels)

    def fairness(self, *groups: str, **options: Any) -> Fairness:
        """Measure how far groups of its examples are apart, see `peftlab.use.fairness.measure.fairness`.

        Args:
            groups: ``column=NAME``, ``terms=THEME`` or ``entities=THEME`` each.
            options: the other fields of `peftlab.use.fairness.measure.Settings`, such as ``intersect=True``.
        """
        from peftlab.use.fairness.measure import Settings, fairness

        return fairness(self.folder.path, Settings(groups, **options), self.folder.allow)

    def audit(self, **options: Any) -> Audit:
        """Attack the run's training examples, see `peftlab.use.auditing.measure.audit`.

        Args:
            options: the fields of `peftlab.use.auditing.measure.Settings`, such as ``shadows=16``.
        """
        from peftlab.use.auditing.measure import Settings, audit

        return audit(self, Settings(**options))

    def explain(
        self,
        text: str | Sequence[str] | Mapping[str, Any],
        target: str | None = None,
        how: str | Sequence[str] = ("ig",),
        baseline: Baseline | Sequence[Baseline] | None = None,
        settings: ExplainSettings | None = None,
    ) -> Explanation:
        """Explain one answer by the words of its text, see `peftlab.use.explanation.explain.explain`."""
        from peftlab.use.explanation.explain import explain

        return explain(self, text, target, how, baseline, settings)

    def diff(self, other: FinishedRun | None = None, settings: DiffSettings | None = None) -> Diff:
        """Measure what training changed, or how `other` differs, see `peftlab.use.differing.diff.diff`."""
        from peftlab.use.differing.diff import diff

        return diff(self, other, settings)

    def export(self, folder: str | Path, dtype: Dtype = "fp32") -> Exported:
        """Write the model as a plain transformers folder, see `peftlab.use.export.export`."""
        from peftlab.use.export import export

        return export(self, folder, dtype)

    def adapted(self) -> nn.Module:
        """Return a new instance of the fine-tuned model, in fp32 and in evaluation mode.

        Raises:
            UserError: the adapter is damaged, or does not fit this run's configuration.
        """
        model = adapted_model(self.parts, self.pretrained).model
        self.load_adapter(model)
        return model.eval().to(self.device)

    def initial(self) -> nn.Module:
        """Return the model that training started from: the pretrained one, or that with the initial adapter."""
        from peftlab.assembly import initial_model

        return initial_model(self.spec, self.pretrained)

    def load_adapter(self, model: nn.Module) -> None:
        """Load the trained parameters into `model`, to which the run's method has been applied.

        Raises:
            UserError: the adapter is damaged, or does not fit this run's configuration.
        """
        try:
            self.parts.peft.load(model, self.folder.adapter)
        except (ValueError, OSError, SafetensorError) as error:
            raise UserError(
                f"{self.folder.adapter} is damaged, or not that of this run's {CONFIG}: {error}. Put back the "
                "files that the run left; their digests are in its record"
            ) from error

    def max_tokens(self, model: nn.Module) -> int:
        """Return the maximum number of tokens of a row: new texts may be longer than any that the run has seen."""
        return longest_row(model, self.parts.data.max_tokens)


def _for_this_machine(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration for using a run here, on one device, whatever it was trained on."""
    # the best checkpoint is already selected: its mode no longer matters
    task = config["task"] | {"selection": config["task"]["selection"] | {"mode": None}}
    trainer = config["trainer"] | {"devices": 1, "num_nodes": 1, "strategy": "single_device"}
    if trainer.get("accelerator") == "gpu" and not torch.cuda.is_available():
        log.warning("the run used a GPU, and there is none here: it is used on the CPU in fp32")
        trainer |= {"accelerator": "cpu", "precision": "32-true", "frozen_weights": "fp32"}
        trainer |= {"static_shapes": False, "tf32": False}
    # used only in training, and they may need packages that are not here
    unused: dict[str, Any] = {"callbacks": {}, "logger": {}, "augment": {}}
    if config["budget"].get("max_passes") is None:  # else they decide how long the run was
        unused |= {"regularizer": {}, "semi": None}
    return {**config, **unused, "task": task, "trainer": trainer}


def _parts_of(config: Mapping[str, Any]) -> ModelParts:
    """Return the sections of a resolved configuration that define the model.

    Raises:
        ConfigError: names the key, what is allowed and the nearest match.
    """
    prefixes = prefixes_of(config)
    check_names(config, "", prefixes)
    sections = {name: config[name] for name in ("model", "data", "task", "peft", "trainer")}
    parts: ModelParts = checked(ModelParts, build(sections, "", prefixes), "")
    return parts
