"""Encoders of stored answers and of questions: a pretrained model, or that of a finished run; the same for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedTokenizerBase

from peftlab.answer_search.arguments import Settings
from peftlab.answer_search.fallback import Fallback
from peftlab.answer_search.index import AnswerIndex, Retriever
from peftlab.answer_search.stored import Stored
from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError, UserError, did_you_mean
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.models.positions import longest_row
from peftlab.specs import build
from peftlab.tasks.inputs.media_files import MediaTask
from peftlab.tasks.networks.embeddings import mean_of_tokens
from peftlab.use.finished import FinishedRun, load
from peftlab.validation import checked

MAX_TOKENS = 256
"""Tokens of an answer that are read; what is beyond is only found by words."""

_AT_ONCE = 32


@dataclass
class Encoder:
    """The normalised mean of a model's last hidden states over a text's tokens (Reimers & Gurevych 2019)."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    about: dict[str, Any]
    """What it is, as JSON values, by which `encoder_of` finds it again."""

    def __call__(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> np.ndarray:
        """Return the embeddings of `texts`, (texts, features), each computed with those of its own length.

        An E5 model is told which texts are questions, as in its training (Wang et al. 2022).
        """
        prefix = f"{kind}: " if self.about["prefixed"] else ""
        limit = longest_row(self.model, MAX_TOKENS)
        rows = self.tokenizer([prefix + text for text in texts], truncation=True, max_length=limit)
        lengths = np.asarray([len(row) for row in rows["input_ids"]])
        found: dict[int, np.ndarray] = {}
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), _AT_ONCE):
            some = order[start : start + _AT_ONCE].tolist()
            batch = self.tokenizer.pad({key: [rows[key][n] for n in some] for key in rows}, return_tensors="pt")
            found |= zip(some, self._embedded(dict(batch)), strict=True)
        return np.stack([found[n] for n in range(len(texts))])

    def _embedded(self, batch: dict[str, Tensor]) -> np.ndarray:
        model: Any = self.model
        encoder = model.get_base_model() if hasattr(model, "get_base_model") else model
        states: list[Tensor] = []
        handle = encoder.base_model.register_forward_hook(lambda _, __, output: states.append(output[0]))
        try:
            device = next(self.model.parameters()).device
            with torch.inference_mode():
                self.model(**{name: tensor.to(device) for name, tensor in batch.items()})
        finally:
            handle.remove()
        return mean_of_tokens(states[-1], batch["attention_mask"].to(device)).float().cpu().numpy()


def pretrained_encoder(name: str) -> Encoder:
    """Return the encoder of the pretrained model that ``conf/model`` has under `name`.

    Raises:
        ConfigError: there is no such model.
        SourceError: it cannot be fetched.
    """
    file = conf_dir() / "model" / f"{name}.yaml"
    if not file.is_file():
        names = sorted(path.stem for path in file.parent.glob("*.yaml"))
        raise ConfigError(f"--model {name}: there is no such model.{did_you_mean(name, names)} See `peftlab models`")
    node = yaml.safe_load(file.read_text(encoding="utf-8"))
    if node.get("path") == "???":
        raise ConfigError(f"--model {name}: it stands for a folder of your own. Train a run on it, and name --run RUN")
    spec: ModelSpec = checked(ModelSpec, build(node, "model"), "model")
    pretrained = fetch(spec)
    tokenizer = pretrained.tokenizer()  # from then on transformers shows no progress
    model = AutoModel.from_pretrained(
        pretrained.folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
    )
    prefixed = "e5" in name.split("_")
    about = {"model": name, "sha256": pretrained.weights_sha256, "prefixed": prefixed}
    return Encoder(model.eval(), tokenizer, about)


def run_encoder(run: str | Path, allow: Sequence[str] = ()) -> Encoder:
    """Return the encoder that a run has fine-tuned: texts that its labels tell apart lie apart.

    Raises:
        UserError: there is no such run, or it cannot be used.
    """
    finished = load(run, allow)
    record = finished.record.data
    prefixed = "e5" in finished.parts.model.name.split("_")
    about = {
        "run": str(finished.folder.path.absolute()),
        "sha256": record["identity"]["sha256"],
        "prefixed": prefixed,
    }
    return Encoder(finished.model, finished.tokenizer, about)


def make_index(answers: list[Stored], encoder: Encoder | None) -> AnswerIndex:
    """Return an index of answers, with their embeddings if there is an encoder."""
    if encoder is None:
        return AnswerIndex(answers)
    vectors = encoder([one.searched for one in answers], "passage")
    return AnswerIndex(answers, vectors, encoder.about, encoder)


def open_index(folder: Path, allow: Sequence[str] = (), words_only: bool = False) -> AnswerIndex:
    """Return the index in a folder, with the encoder that it was made with unless only words are searched.

    Raises:
        UserError: there is none, it is damaged, or its encoder has changed or is not available.
    """
    index = AnswerIndex.read(folder)
    if index.encoder and not words_only:
        about = index.encoder
        encoder = pretrained_encoder(about["model"]) if "model" in about else run_encoder(about["run"], allow)
        index.encode = encoder
        if encoder.about["sha256"] != about["sha256"]:
            raise UserError(
                f"{folder}: its answers were embedded by another version of "
                f"{about.get('model') or about.get('run')}. Make it again with `peftlab answers`"
            )
    return index


def open_fallback(settings: Settings | None, allow: Sequence[str] = ()) -> Fallback | None:
    """Return the stored answers that `settings` name; None: there are none.

    Raises:
        UserError: as `open_index` raises it, or the index cannot be searched so.
    """
    if settings is None:
        return None
    index = open_index(settings.index, allow, words_only=settings.retriever == "bm25")
    retriever = cast(Retriever, settings.retriever or index.retrievers[-1])
    fallback = Fallback(index, retriever, settings.top_k, settings.min_score)
    fallback.answers("")  # whether it can be searched so
    return fallback


def fall_back(run: FinishedRun, settings: Settings) -> None:
    """Have what is out of the scope of `run` get stored answers from now on, see `Predictor.fallback`.

    Raises:
        UserError: the run answers no texts, or has not learnt what is out of its scope; or as `open_fallback` raises
            it.
    """
    check_scope(run)
    run.predictor = replace(run.predictor, fallback=open_fallback(settings, run.folder.allow))


def check_scope(run: FinishedRun) -> None:
    """Check that a run answers texts, and has learnt what is out of its scope.

    Raises:
        UserError: it does not, or has not.
    """
    if isinstance(run.spec.task, MediaTask):
        raise UserError(
            f"{run.folder.path}: --fallback searches stored answers by the words of a text, and task="
            f"{run.spec.task.name} takes files. Leave it out"
        )
    if run.scope is None:
        raise UserError(
            f"{run.folder.path}: --fallback is for texts that are out of the run's scope, and it has not learnt what "
            "is. Train it with out_of_scope=energy, see docs/out_of_scope.md"
        )
