"""Load a pretrained model and its tokenizer for a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Literal

import torch
import transformers
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from peftlab.errors import ConfigError, SourceError
from peftlab.methods.method import is_of_head
from peftlab.record import sha256_of
from peftlab.sources import MODEL_FILES, PICKLED_WEIGHTS, FilesSource, HubSource, IndexSource
from peftlab.tasks.task import Task

DROPOUT_KEYS = {
    "dropout": ("hidden_dropout_prob", "hidden_dropout", "dropout", "embedding_dropout", "mlp_dropout"),
    "attention_dropout": ("attention_probs_dropout_prob", "attention_dropout"),
}
"""What architectures call our dropout keys; every one that a model's configuration has is set."""

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@spec
class ModelSpec:
    """A pretrained model, and how it computes."""

    name: str
    """Of the model, in the record."""
    path: str | None = None
    """The folder of `model=folder`."""
    source: IndexSource | HubSource | FilesSource
    """Where the files come from."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """The implementation of attention, see `preferred_attention`; auto: the better one that the architecture has."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout after every sub-layer and the embeddings; None: as pretrained."""
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of the attention weights; None: as pretrained."""
    head_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout before the head; None: as pretrained, which is `dropout` in most architectures."""


@plain_dataclass(frozen=True)
class Pretrained:
    """A pretrained model on this machine's disk, checked but not loaded."""

    spec: ModelSpec
    folder: Path
    origin: str
    """Where it came from, e.g. ``index:NAME==VERSION``."""
    resolved: dict[str, str]
    """Settings of the source that have been made definite, see `Fetched`."""
    weights_sha256: str
    """Over the digests of all files of the model."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer.

        Raises:
            SourceError: there is none, or not a fast one, without which words cannot be found again in the tokens.
        """
        _quiet()
        with _loading(f"{self.folder}: no tokenizer can be loaded"):
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # what transformers makes of no files
            raise SourceError(f"{self.folder}: no tokenizer in the model's folder; save_pretrained writes it")
        if not tokenizer.is_fast:
            raise SourceError(f"{self.folder}: the tokenizer has no tokenizer.json; save it as a fast tokenizer")
        return tokenizer

    def backbone(self, task: Task, attention: str = "eager") -> PreTrainedModel:
        """Load the model in fp32 with a new head for `task`, which must have learnt its labels.

        Args:
            task: whose head the model gets.
            attention: the implementation that ``auto`` stands for, where the architecture has it.

        Raises:
            SourceError: the weights do not fit the architecture that config.json names.
            ConfigError: the architecture lacks a dropout or the implementation of attention that is asked for.
        """
        _quiet()
        unloadable = f"{self.folder}: the model cannot be loaded"
        with _loading(unloadable):
            config = AutoConfig.from_pretrained(
                self.folder,
                num_labels=len(task.labels),
                id2label=dict(enumerate(task.labels)),
                label2id={label: n for n, label in enumerate(task.labels)},
                local_files_only=True,
                trust_remote_code=False,
            )
        self._set_dropout(config)
        with _loading(unloadable):
            model, report = getattr(transformers, task.head.model).from_pretrained(
                self.folder,
                config=config,
                attn_implementation="eager",
                dtype=torch.float32,
                use_safetensors=any(self.folder.glob("model*.safetensors")),
                weights_only=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        head = head_of(model)
        missing = sorted(key for key in report["missing_keys"] if not is_of_head(key, head))
        if missing:
            raise SourceError(
                f"{self.folder}: {len(missing)} tensors of {type(model).__name__} are not in the weights, "
                f"first {missing[0]}; is this the whole model?"
            )
        self._set_head_dropout(model)
        self._set_attention(model, attention)
        return model

    def _set_dropout(self, config: transformers.PretrainedConfig) -> None:
        for key, names in DROPOUT_KEYS.items():
            value = getattr(self.spec, key)
            known = [name for name in names if hasattr(config, name)]
            if value is not None and not known:
                raise ConfigError(f"model.{key}={value}: {config.model_type} has no such dropout; leave it null")
            if value is not None:
                for name in known:
                    setattr(config, name, value)

    def _set_head_dropout(self, model: PreTrainedModel) -> None:
        """Set it in the modules: architectures have keys for it that their heads do not all look at."""
        value = self.spec.head_dropout
        beside = [child for name, child in model.named_children() if name != model.base_model_prefix]
        found = [module for child in beside for module in child.modules() if isinstance(module, nn.Dropout)]
        if value is not None and not found:
            raise ConfigError(f"model.head_dropout={value}: {type(model).__name__} has no such dropout; leave it null")
        if value is not None:
            for module in found:
                module.p = value

    def _set_attention(self, model: PreTrainedModel, preferred: str) -> None:
        wanted = preferred if self.spec.attention == "auto" else self.spec.attention
        if wanted == "sdpa" and model._supports_sdpa:
            model.set_attn_implementation("sdpa")
        elif self.spec.attention == "sdpa":
            raise ConfigError(
                f"model.attention=sdpa: {model.config.model_type} has no such implementation; "
                "it knows model.attention=eager"
            )


LONG_ROWS = 128
"""Tokens up to which attention weights are few beside everything else."""


def preferred_attention(accelerator: str, max_tokens: int) -> Literal["eager", "sdpa"]:
    """Return which implementation of attention to take on this kind of device for rows of at most `max_tokens`.

    ``sdpa`` never holds the weights of all pairs of tokens at once: the faster one on GPUs, and less memory for long
    rows anywhere. On a CPU both take about as long, and short rows took longer with ``sdpa`` on some.
    """
    return "sdpa" if accelerator == "gpu" or max_tokens > LONG_ROWS else "eager"


def fetch(spec: ModelSpec) -> Pretrained:
    """Bring the files of the model to this machine's disk and check them.

    Raises:
        SourceError: a file cannot be had, has another digest, or weights are missing.
    """
    fetched = spec.source.fetch()
    folder = fetched.folder
    if not (folder / "config.json").is_file():
        raise SourceError(f"{folder}: no config.json in the model's folder; save_pretrained writes it")
    if (folder / "adapter_config.json").exists():  # transformers would load it on top, from wherever it says
        raise SourceError(f"{folder}: an adapter lies in the model's folder; merge it into the model, or take it away")
    patterns = MODEL_FILES
    if not any(folder.glob("model*.safetensors")):
        patterns += PICKLED_WEIGHTS
        if not (fetched.allow_pickle and any(path for name in PICKLED_WEIGHTS for path in folder.glob(name))):
            raise SourceError(
                f"{folder}: no model.safetensors in the model's folder; save the weights with save_pretrained, "
                "which writes it"
            )
    names = {path.name for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    digests = {name: fetched.digest(name) for name in sorted(names)}
    return Pretrained(spec, folder, fetched.origin, fetched.resolved, sha256_of(digests))


def head_of(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of the modules that make up the task's head: all that comes after the encoder's last layer.

    That is what is beside the encoder, and its pooler where it has one. BERT and ALBERT keep in the pooler what other
    architectures have in their heads, and published weights of it are often random (MiniLM) or missing: left frozen, it
    would hide the encoder from the head.
    """
    encoder = model.base_model_prefix
    poolers = [f"{encoder}.{name}" for name, _ in getattr(model, encoder).named_children() if name == "pooler"]
    names = poolers + [name for name, _ in model.named_children() if name != encoder]
    return tuple(name for name in names if any(True for _ in model.get_submodule(name).parameters()))


def positions(model: nn.Module) -> int | None:
    """Return the most tokens that a row may have; None for models with relative positions, which have no such limit."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            # RoBERTa and its like count from after the padding
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def check_length(model: nn.Module, longest: int, virtual_tokens: int = 0) -> None:
    """Check that `model` has a position for every token of a row of `longest` tokens, `virtual_tokens` before them.

    Raises:
        ConfigError: it was pretrained with fewer.
    """
    most = positions(model)
    if most is not None and virtual_tokens + longest > most:
        virtual = f", and {virtual_tokens} virtual ones before them" if virtual_tokens else ""
        raise ConfigError(
            f"data.max_tokens: the model has {most} positions, and a row has {longest} tokens{virtual}; "
            f"set data.max_tokens={most - virtual_tokens}"
        )


@contextmanager
def _loading(trouble: str) -> Iterator[None]:
    """Around transformers' own loading, and nothing else: what is wrong with a folder may show as any exception.

    Raises:
        SourceError: it fails; begins with `trouble`.
    """
    try:
        yield
    except Exception as error:
        raise SourceError(f"{trouble}: {_first_line(error)}") from error


def _quiet() -> None:
    """Keep transformers from printing progress bars and reports: we check what it loads."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _first_line(error: Exception) -> str:
    first, *rest = str(error).strip().split("\n")
    return f"{first} {rest[0].strip()}" if first.endswith(":") and rest else first or type(error).__name__
