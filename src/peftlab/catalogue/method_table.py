"""A table of all methods: their sources, and what each would train of a model, computed without its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoConfig, BertConfig, GPT2Config, LlamaConfig, PretrainedConfig, T5Config

from peftlab.composing.compose import conf_dir
from peftlab.config import build
from peftlab.errors import ConfigError, did_you_mean
from peftlab.methods.head import head_of
from peftlab.methods.method import Method, MethodContext
from peftlab.models import backbone
from peftlab.models.language_models import of_words
from peftlab.tasks.networks.heads import CAUSAL_LM, SEQ2SEQ_LM, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION, Head

TASKS = {"ner": TOKEN_CLASSIFICATION, "classification": SEQUENCE_CLASSIFICATION}
"""Tasks of any model that reads a text."""
_SMALL = {"vocab_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4}
_HIDDEN = 64
WRITERS: dict[str, tuple[Head, PretrainedConfig]] = {
    "Llama": (
        CAUSAL_LM,
        LlamaConfig(hidden_size=_HIDDEN, intermediate_size=2 * _HIDDEN, num_key_value_heads=2, **_SMALL),
    ),
    "GPT-2": (CAUSAL_LM, GPT2Config(hidden_size=_HIDDEN, bos_token_id=0, eos_token_id=0, **_SMALL)),
    "T5": (SEQ2SEQ_LM, T5Config(d_model=_HIDDEN, d_kv=_HIDDEN // 4, d_ff=2 * _HIDDEN, **_SMALL)),
}
"""A small model of each architecture, of those that write text, on which it is tried whether a method works."""
LABELS = 9
"""Number of labels of the heads: BIO tags of four types, as in CoNLL-2003."""


@dataclass(frozen=True)
class About:
    """A method as described by the comment at the top of its file."""

    name: str
    family: str
    title: str
    """The title of its paper, or a summary of the method."""
    authors: str | None
    """First author and year, e.g. ``Hu et al. 2021``."""
    url: str | None
    note: str
    """The rest of the comment."""


@dataclass(frozen=True)
class Row:
    """A method on a model."""

    about: About
    trainable_parameters: int | None
    """Head included, for the first of `tasks`; None where the method does not work on the model."""
    share: float | None
    """The share of all parameters that is trainable."""
    megabytes: float | None
    """Size of the saved tensors in 10^6 bytes."""
    mergeable: bool
    tasks: list[str]
    """The tasks for which it works on the model."""
    learning_rate: float
    problem: str | None
    """Why it does not work on the model."""
    not_on: dict[str, str]
    """Why it does not work on those of `WRITERS` that are named."""

    @property
    def writers(self) -> list[str]:
        """The architectures that write text on which it works."""
        return [name for name in WRITERS if name not in self.not_on]

    def document(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        document = asdict(self)
        return document.pop("about") | document


def method_names() -> list[str]:
    """Return the names of all methods."""
    return sorted(path.stem for path in (conf_dir() / "peft").glob("*.yaml"))


def about(name: str) -> About:
    """Return the description in the file of the method `name`."""
    lines = _file(name).read_text(encoding="utf-8").splitlines()
    header = [line.removeprefix("#").strip() for line in lines[: [line.startswith("#") for line in lines].index(False)]]
    text = " ".join(line for line in header if not line.startswith("Family:"))
    family = next((line for line in header if line.startswith("Family:")), "Family: -").removeprefix("Family:")
    match = re.match(r"(.+?) \((?:([^()]*?\d{4}), )?(https?://[^\s)]+)\)[:.]? ?(.*)", text)
    if match is None:
        title, _, note = text.partition(". ")
        return About(name, family.strip(" ."), title.removesuffix(".") + ".", None, None, note)
    title, authors, url, note = match.groups()
    return About(name, family.strip(" ."), title, authors, url, note)


def _file(name: str) -> Path:
    path = conf_dir() / "peft" / f"{name}.yaml"
    names = method_names()
    if name not in names:
        raise ConfigError(f"there is no method '{name}'.{did_you_mean(name, names)} Allowed: {', '.join(names)}")
    return path


def _composed(name: str) -> Any:
    """Return the configuration of the method `name`; only one with ``defaults`` needs Hydra to compose."""
    config = yaml.safe_load(_file(name).read_text(encoding="utf-8"))
    if "defaults" not in config:
        return config
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose(f"peft/{name}").peft, resolve=True)


def rows(names: Sequence[str] = (), model: str | None = None) -> Iterator[Row]:
    """Yield a row for each method in `names` (by default all) on `model`: a name in ``conf/model/``, a folder, or None
    for the sizes of BERT-base.

    Raises:
        UserError: there is no such method or model.
    """
    config = BertConfig() if model is None else model_config(model)
    for name in names or method_names():
        yield _row(name, config)


def model_config(model: str) -> PretrainedConfig:
    """Return the configuration of `model`, a name in ``conf/model/`` or a folder with a ``config.json``.

    Raises:
        UserError: there is no such model, or it cannot be fetched.
    """
    folder = Path(model)
    if not (folder / "config.json").is_file():
        names = sorted({path.stem for path in (conf_dir() / "model").glob("*.yaml")} - {"folder"})
        if model not in names:
            raise ConfigError(
                f"--model {model}: there is neither such a folder nor such a model.{did_you_mean(model, names)} "
                f"Allowed: a folder with a config.json, {', '.join(names)}"
            )
        text = (conf_dir() / "model" / f"{model}.yaml").read_text(encoding="utf-8")
        folder = backbone.fetch(backbone.ModelSpec(**build(yaml.safe_load(text), "model"))).folder
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _row(name: str, config: PretrainedConfig) -> Row:
    method: Method = build(_composed(name), "peft")
    tasks: list[str] = []
    problem: str | None = None
    trainable: int | None = None
    share = megabytes = None
    for task, head in _tasks_of(config).items():
        try:
            tuned = _applied(method, head, config, numbers=not tasks)
        except ConfigError as error:
            problem = problem or str(error)
            continue
        tasks.append(task)
        if tuned is not None and trainable is None:
            counts = method.count(tuned)
            trainable = counts["trainable_parameters"]
            share = trainable / counts["total_parameters"]
            megabytes = sum(tensor.nbytes for tensor in method.written(tuned).values()) / 1e6
    reasons = {writer: _refusal(method, *model) for writer, model in WRITERS.items()}
    not_on = {writer: reason for writer, reason in reasons.items() if reason is not None}
    rest = (method.mergeable, tasks, method.learning_rate, problem, not_on)
    return Row(about(name), trainable, share, megabytes, *rest)


def _tasks_of(config: PretrainedConfig) -> dict[str, Head]:
    """Return tasks that a model with this configuration can have, and their heads."""
    kind = type(config)
    if config.is_encoder_decoder:
        tasks = {"seq2seq": SEQ2SEQ_LM, **TASKS}
    elif kind in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and kind not in transformers.MODEL_FOR_MASKED_LM_MAPPING:
        tasks = {"causal_lm": CAUSAL_LM, **TASKS}
    else:
        tasks = TASKS
    heads = {
        TOKEN_CLASSIFICATION: transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
        SEQUENCE_CLASSIFICATION: transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        SEQ2SEQ_LM: transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    }
    return {task: head for task, head in tasks.items() if kind in heads.get(head, (kind,))}


def _refusal(method: Method, head: Head, config: PretrainedConfig) -> str | None:
    """Return why `method` does not work on a model; None: it does."""
    try:
        _applied(method, head, config, numbers=True)
    except ConfigError as error:
        return str(error)
    return None


def _applied(method: Method, head: Head, config: PretrainedConfig, numbers: bool) -> torch.nn.Module | None:
    """Return a model with the method applied, on the meta device if possible.

    If the method needs values and `numbers` is false, return None: the method is assumed to work.
    """
    settings = head.settings([f"LABEL_{n}" for n in range(LABELS)])
    config = of_words(type(config).from_dict(config.to_dict() | settings), head, settings)
    with torch.device("meta"):
        model = getattr(transformers, head.model).from_config(config)
    context = MethodContext(head_of(model) if head.is_new else (), head.task_type, "none", head.outputs)
    try:
        with torch.device("meta"):
            return method.apply(model, context)
    except ConfigError as error:
        if not isinstance(error.__cause__, NotImplementedError):
            raise
    return method.apply(getattr(transformers, head.model).from_config(config), context) if numbers else None


def markdown(rows: Sequence[Row]) -> str:
    """Return a table in Markdown."""
    head = ["`peft=`", "family", "paper", "trainable", "share", "adapter MB", "merges", "writes with", "learning rate"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        paper = f"[{row.about.authors or row.about.title}]({row.about.url})" if row.about.url else row.about.title
        trainable, share, size, merges, _, writers, rate = cells(row)
        lines.append([f"`{row.about.name}`", row.about.family, paper, trainable, share, size, merges, writers, rate])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cells(row: Row) -> list[str]:
    """Return the cells of a row: parameters, share, MB, merging, tasks, models that write text, learning rate."""
    merges = "yes" if row.mergeable else "no"
    writers, rate = ", ".join(row.writers) or "-", f"{row.learning_rate:g}"
    if row.trainable_parameters is None or row.share is None:
        return ["-", "-", "-", merges, "-", writers, rate]
    share = f"{100 * row.share:.2g} %" if row.share < 0.995 else "100 %"
    return [f"{row.trainable_parameters:,}", share, f"{row.megabytes:.3g}", merges, ", ".join(row.tasks), writers, rate]


def details(row: Row) -> dict[str, str]:
    """Return all facts about a method on a model, by their labels."""
    names = ["trainable parameters", "share of all", "adapter MB", "merges", "tasks", "writes with", "learning rate"]
    facts = {"method": row.about.name, "family": row.about.family, "paper": row.about.title}
    facts |= {"authors": row.about.authors or "", "at": row.about.url or "", "note": row.about.note}
    facts |= dict(zip(names, cells(row), strict=True)) | {"not on this model": row.problem or ""}
    facts |= {f"not with {name}": reason for name, reason in row.not_on.items()}
    return {key: value for key, value in facts.items() if value}
