"""Load a pretrained model and its processor for a task."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import transformers
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from peftlab.errors import ConfigError, SourceError
from peftlab.methods.head import head_of, is_of_head, output_of
from peftlab.methods.labels import Matched, labels_of_config, match
from peftlab.methods.method import MethodContext
from peftlab.models.language_models import NAMES_IN_WHOLE, check_kind, let_ends_learn, name_alone, of_words
from peftlab.models.model_files import MORE_TEMPLATES, deciding_files, files_of_task, has_safetensors
from peftlab.models.pooling import Pooling, pool
from peftlab.models.quantizing import Quantization
from peftlab.models.vocabulary import biases_of_output, missing_layers, note_on_missing
from peftlab.seams.transformers import draw_weights, has_sdpa, kind_of, save_as_it_is
from peftlab.sources import Source
from peftlab.storage.digests import sha256_of
from peftlab.storage.entries import oddity
from peftlab.tasks.networks.heads import head_in, model_class
from peftlab.tasks.processor import LOADERS, Processor, ProcessorKind
from peftlab.tasks.task import Task

DROPOUT_KEYS = {
    "dropout": (
        *("hidden_dropout_prob", "hidden_dropout", "dropout", "embedding_dropout", "mlp_dropout"),
        *("dropout_rate", "resid_pdrop", "embd_pdrop"),
    ),
    "attention_dropout": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"),
}
"""The names of our dropout keys in the architectures; all that a model's configuration has are set."""

_FLOATING = ("F64", "F32", "F16", "BF16")
"""Dtypes in safetensors that are converted to fp32, with rounding if needed."""

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@spec
class ModelSpec:
    """A pretrained model, and how it computes."""

    name: str
    """The model's name in the record."""
    path: str | None = None
    """The folder of `model=folder`."""
    source: Source
    """The source of the files."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """The implementation of attention; auto: what `peftlab.speed.attention` prefers, if the architecture has it."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout after every sub-layer and the embeddings; None: as pretrained."""
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of the attention weights; None: as pretrained."""
    head_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout before the head; None: as pretrained, which is `dropout` in most architectures."""
    pooling: Pooling | None = None
    """What the head of a text reads of the last hidden states; None: what the architecture's own reads."""
    quantize: Quantization = "none"
    """The form of the linear layers of the repeated blocks, see `peftlab.models.quantizing`; none: in fp32."""


class Backbone(NamedTuple):
    """A pretrained model with the head of a task."""

    model: PreTrainedModel
    context: MethodContext
    """What a method may know about the model."""
    notes: list[str]
    """One sentence for each part of the pretrained model's own head that was not taken."""


@plain_dataclass(frozen=True)
class Pretrained:
    """A pretrained model on the local disk, checked but not loaded."""

    spec: ModelSpec
    folder: Path
    origin: str
    """The source, e.g. ``index:NAME==VERSION``."""
    resolved: dict[str, str]
    """Settings of the source that the fetch has made definite, see `Fetched`."""
    weights_sha256: str
    """The digest of the digests of all files of the model."""

    def processor(self, kind: ProcessorKind) -> Processor:
        """Load the processor that makes the model's inputs.

        Raises:
            SourceError: there is none of this kind.
        """
        if kind == "tokenizer":
            config = self._config()
            return Processor(kind, self.tokenizer(), getattr(config, "decoder_start_token_id", None), kind_of(config))
        loader = getattr(transformers, LOADERS[kind])  # a slow import, which texts do not need
        _quiet()
        with _loading(f"{self.folder}: no {kind.replace('_', ' ')} can be loaded"):
            loaded = loader.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        return Processor(kind, loaded, words=self.tokenizer() if kind == "speech_processor" else None)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer.

        Raises:
            SourceError: there is none, it cannot encode text, or it is not a fast one, which is needed to map tokens to
                words.
        """
        _quiet()
        with _loading(f"{self.folder}: no tokenizer can be loaded"):
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # the result of loading no files
            raise SourceError(f"{self.folder}: no tokenizer in the model's folder; save_pretrained writes it")
        if not tokenizer.is_fast:
            raise SourceError(f"{self.folder}: the tokenizer has no tokenizer.json; save it as a fast tokenizer")
        if tokenizer.pad_token is None and tokenizer.eos_token is not None:  # of no effect: padding is masked
            tokenizer.pad_token = tokenizer.eos_token
        with _loading(f"{self.folder}: the tokenizer encodes no text"):  # there may be no token for unknown characters
            tokenizer("a \N{SNOWMAN}")
        return tokenizer

    def backbone(self, task: Task, attention: str = "eager") -> PreTrainedModel:
        """Return the model of `load`."""
        return self.load(task, attention).model

    def input_embeddings(self, task: Task) -> np.ndarray:
        """Return the input embeddings of the pretrained model, shape (vocabulary, features), in fp32.

        Raises:
            SourceError: the model cannot be loaded.
        """
        with torch.random.fork_rng(devices=[]):  # a new head draws random numbers
            table: Any = self.backbone(task).get_input_embeddings()
        return np.asarray(table.weight.detach())

    def load(self, task: Task, attention: str = "eager") -> Backbone:
        """Load the model in fp32 with a head for `task`, which must have learnt its labels.

        Of a decoder that reads pictures too, only what reads and writes words is loaded.

        A head of the same kind in the weights is used: rows of its output layer are matched by label name, and rows
        for other labels are initialised. The head of a language model must be in the weights, unless the task completes
        it.

        Args:
            task: the task whose head the model gets.
            attention: the implementation that ``auto`` stands for, if the architecture has it.

        Raises:
            SourceError: the weights do not fit the architecture that config.json names.
            ConfigError: the architecture lacks a head with labels, or a configured dropout, pooling or implementation
                of attention.
        """
        _quiet()
        if task.head.of_words:
            task.bind(self.processor(task.processor))
        theirs = self._config()
        check_kind(theirs, task.head, task.name)
        theirs = of_words(theirs, task.head, {})
        settings = task.head_settings()
        config = of_words(self._config(**settings), task.head, settings)
        if task.head.is_new and kind_of(config) != "encoder" and config.pad_token_id is None:
            config.pad_token_id = self.tokenizer().pad_token_id  # a decoder's head reads the last token before it
        self._set_dropout(config)
        model, report = self._load(task, config)
        head = head_of(model) if task.head.is_new else ()
        if task.head.completed:
            head = missing_layers(model, report["missing_keys"])
        spared = biases_of_output(model) if task.head.completed else frozenset()
        missing = sorted(key for key in {*report["missing_keys"]} - spared if not is_of_head(key, head))
        if missing:
            raise SourceError(
                f"{self.folder}: {len(missing)} tensors of {type(model).__name__} are not in the weights, "
                f"first {missing[0]}; is this the whole model? They are those of {(theirs.architectures or ['?'])[0]}"
            )
        other = {key: shapes for key, *shapes in sorted(report["mismatched_keys"])}
        if odd := [key for key in other if not is_of_head(key, head)]:
            stored, own = (tuple(shape) for shape in other[odd[0]])
            raise SourceError(
                f"{self.folder}: {len(odd)} tensors of {type(model).__name__} have another shape in the weights, first "
                f"{odd[0]}, {stored} for {own}; do config.json and the weights belong together?"
            )
        _check_types(self.folder, model)
        output = output_of(model, head) if task.head.is_new else ""
        anew, notes = self._match_output(model, theirs, task, output, {*report["missing_keys"]}, other)
        if spare := [key for key in other if not is_of_head(key, (output,))]:
            notes = [*notes, f"of its head, {', '.join(spare)} are of another shape; not taken"]
        if head and not task.head.is_new:
            notes = [*notes, note_on_missing(head)]
        fresh = {key for key in (*report["missing_keys"], *other) if is_of_head(key, head)}
        fresh = {key for key in fresh if not is_of_head(key, (output,))} | anew
        self._set_head_dropout(model)
        self._set_attention(model, attention)
        let_ends_learn(model)
        task.shape(model)
        pooling = self._pool(model, task)
        fresh |= {f"{name}.{tensor}" for name in pooling for tensor, _ in model.get_submodule(name).named_parameters()}
        context = MethodContext(
            (*head, *pooling),
            task.head.task_type,
            self.origin,
            outputs=task.head.outputs,
            of_texts=task.head.of_texts,
            labels=tuple(task.labels),
            output=output,
            fresh=frozenset(fresh),
            mixed=task.mixed,
        )
        return Backbone(model, context, notes)

    def _config(self, **changes: Any) -> transformers.PretrainedConfig:
        with _loading(f"{self.folder}: the model cannot be loaded"):
            return AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False, **changes)

    def _load(self, task: Task, config: transformers.PretrainedConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
        """Return the model and transformers' report on loading it."""
        is_part = type(config) is not type(self._config())
        with _loading(f"{self.folder}: the model cannot be loaded"):
            model, report = model_class(task.head).from_pretrained(
                self.folder,
                config=config,
                attn_implementation="eager",
                dtype=torch.float32,
                use_safetensors=has_safetensors(self.folder),
                weights_only=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # we check these; transformers would not name them
                **({"key_mapping": NAMES_IN_WHOLE} if is_part else {}),
            )
        if is_part:
            save_as_it_is(model)
        return model, report

    def _match_output(
        self,
        model: PreTrainedModel,
        theirs: transformers.PretrainedConfig,
        task: Task,
        output: str,
        missing: Collection[str],
        other: Mapping[str, Any],
    ) -> tuple[set[str], list[str]]:
        """Give the output layer of `model`, which transformers loads by size alone, the rows stored for its labels.

        Args:
            model: as transformers has loaded it.
            theirs: the configuration in the folder.
            task: the run's task.
            output: the name of the layer.
            missing: names of the tensors that the weights lack.
            other: names of the tensors with another shape in the weights, with that shape and their own.

        Returns:
            the names of the layer's tensors that are newly initialised, and notes for the user, one sentence each.
        """
        layer = model.get_submodule(output)
        names = {f"{output}.{kind}" for kind, _ in layer.named_parameters()} if output else set()
        architecture = str((theirs.architectures or [""])[0])
        differs = head_in(architecture) not in ("", head_in(type(model).__name__))
        not_taken = f"it has the head of {architecture}, which is of another kind than this run's; not taken"
        weight = f"{output}.weight"
        if not output or weight in missing:
            return names, [not_taken] if differs and architecture.endswith("Classification") else []
        count = other[weight][0][0] if weight in other else len(layer.weight)
        if differs:
            matched, notes = Matched({}, task.labels, ()), [not_taken]
        else:
            labels = labels_of_config(theirs.to_dict())
            matched, notes = match(task.labels, labels if labels and len(labels) == count else None, count)
        if matched.in_order:
            return set(), notes
        stored = layer if weight not in other or not matched.rows else self._load(task, theirs)[0].get_submodule(output)
        rows = {kind: parameter.detach().clone() for kind, parameter in stored.named_parameters()}
        if weight not in other:  # else transformers has initialised it
            _begin_anew(model, layer)
        for kind, parameter in layer.named_parameters():
            matched.fill(parameter, rows[kind])
        return set() if matched.rows else names, notes

    def _set_dropout(self, config: transformers.PretrainedConfig) -> None:
        for key, names in DROPOUT_KEYS.items():
            value = getattr(self.spec, key)
            present = [name for name in names if hasattr(config, name)]
            if value is not None and not present:
                raise ConfigError(f"model.{key}={value}: {config.model_type} has no such dropout; leave it null")
            if value is not None:
                for name in present:
                    setattr(config, name, value)

    def _set_head_dropout(self, model: PreTrainedModel) -> None:
        """Set it in the modules, since not all heads read their architecture's key for it."""
        value = self.spec.head_dropout
        outside = [child for name, child in model.named_children() if name != model.base_model_prefix]
        dropouts = [module for child in outside for module in child.modules() if isinstance(module, nn.Dropout)]
        if value and not dropouts:
            raise ConfigError(f"model.head_dropout={value}: {type(model).__name__} has no such dropout; leave it null")
        if value is not None:
            for module in dropouts:
                module.p = value

    def _pool(self, model: PreTrainedModel, task: Task) -> list[str]:
        """Set the pooling, and return the names of the new modules of the head."""
        if self.spec.pooling is not None and task.head.outputs != "text":
            raise ConfigError(
                f"model.pooling={self.spec.pooling}: the head of task={task.name} has outputs for each token, and "
                "nothing is pooled. Set model.pooling=null"
            )
        return pool(model, self.spec.pooling, task.pooling_inputs, task.name)

    def _set_attention(self, model: PreTrainedModel, preferred: str) -> None:
        wanted = preferred if self.spec.attention == "auto" else self.spec.attention
        if wanted == "sdpa" and has_sdpa(model):
            model.set_attn_implementation("sdpa")
        elif self.spec.attention == "sdpa":
            raise ConfigError(
                f"model.attention=sdpa: {model.config.model_type} has no such implementation; "
                "it knows model.attention=eager"
            )


def fetch(spec: ModelSpec, task: Task | None = None) -> Pretrained:
    """Fetch the files of the model to the local disk and check them.

    Args:
        spec: the model.
        task: the task that decides which files count; None: one on texts that generates none.

    Raises:
        SourceError: a file cannot be fetched, has another digest, or weights are missing.
    """
    fetched = spec.source.fetch()
    folder = fetched.folder
    if not (folder / "config.json").is_file():
        raise SourceError(f"{folder}: no config.json in the model's folder; save_pretrained writes it")
    if (folder / "adapter_config.json").exists():  # transformers would load it too, from wherever it points
        raise SourceError(f"{folder}: an adapter lies in the model's folder; merge it into the model, or take it away")
    for path in (*folder.iterdir(), *folder.glob(MORE_TEMPLATES)):
        if path.exists() and (odd := oddity(path)):  # transformers would wait to read it
            raise SourceError(f"{path}: is {odd}; only files belong in the model's folder")
    deciding = deciding_files(folder, fetched.allow_pickle)
    if task is not None:
        deciding |= files_of_task(folder, task.processor, task.generates)
    digests = {name: fetched.digest(name) for name in sorted(deciding)}
    return Pretrained(spec, folder, fetched.origin, fetched.resolved, sha256_of(digests))


def _check_types(folder: Path, model: PreTrainedModel) -> None:
    """Raise a SourceError for weights in dtypes whose conversion would change the numbers."""
    prefix = f"{model.base_model_prefix}."
    own = {name.removeprefix(prefix) for name, parameter in model.named_parameters() if parameter.is_floating_point()}
    for file in sorted(deciding_files(folder, allow_pickle=True)):
        if not file.endswith(".safetensors"):
            continue
        with safe_open(folder / file, framework="pt") as tensors:
            types = {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        for name, kind in types.items():
            if own & {name.removeprefix(prefix), name_alone(name)} and kind not in _FLOATING:
                raise SourceError(
                    f"{folder / file}: {name} is of the type {kind}, which is not converted; save the "
                    "weights in fp32, fp16 or bf16"
                )


def _begin_anew(model: PreTrainedModel, layer: Any) -> None:
    """Initialise a linear `layer` as the architecture does for missing weights."""
    fresh = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
    draw_weights(model, fresh)
    layer.load_state_dict(fresh.state_dict())


@contextmanager
def _loading(trouble: str) -> Iterator[None]:
    """Wrap only transformers' own loading, in which a faulty folder may raise any exception.

    Raises:
        SourceError: loading fails; the message begins with `trouble`.
    """
    try:
        yield
    except Exception as error:
        raise SourceError(f"{trouble}: {_first_line(error)}") from error


def _quiet() -> None:
    """Stop transformers from printing progress bars and reports; our own checks replace them."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _first_line(error: Exception) -> str:
    first, *rest = str(error).strip().split("\n")
    return f"{first} {rest[0].strip()}" if first.endswith(":") and rest else first or type(error).__name__
