"""Processors, which turn texts, pictures or sounds into the inputs of a pretrained model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from peftlab.seams.transformers import ModelKind

ProcessorKind = Literal["tokenizer", "image_processor", "feature_extractor", "speech_processor"]
"""The kind of processor that encodes a task's examples, in transformers' terms; one for speech is a feature extractor
with a tokenizer of what is said."""

LOADERS: dict[ProcessorKind, str] = {
    "tokenizer": "AutoTokenizer",
    "image_processor": "AutoImageProcessor",
    "feature_extractor": "AutoFeatureExtractor",
    "speech_processor": "AutoFeatureExtractor",
}
"""The transformers class that loads a processor of each kind; the tokenizer of one for speech is loaded beside it."""


@dataclass(frozen=True)
class Processor:
    """The processor of a pretrained model."""

    kind: ProcessorKind
    transform: Any
    """The transformers object: a fast tokenizer, an image processor or a feature extractor."""
    decoder_start: int | None = None
    """The id of the token that the decoder of an encoder-decoder begins with; None: the model is none."""
    model_kind: ModelKind | None = None
    """The kind of the model; None where it is unknown."""
    words: PreTrainedTokenizerBase | None = None
    """The tokenizer beside a feature extractor, of a processor for speech."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer; the processor must have one."""
        assert self.has_tokenizer, f"the task says that it takes a processor of the kind {self.kind}"
        return self.transform if self.words is None else self.words

    @property
    def has_tokenizer(self) -> bool:
        """Whether it reads or writes texts."""
        return self.kind == "tokenizer" or self.words is not None

    @property
    def chat_template(self) -> str | None:
        """Return the template of the model's conversations; None if it has none."""
        return getattr(self.transform, "chat_template", None)

    @property
    def special_ids(self) -> list[int]:
        """The ids of tokens that stand for no text, such as separators; the unknown token stands for some."""
        if not self.has_tokenizer:
            return []
        return sorted(set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id})

    def fingerprint(self) -> str:
        """Return a digest of everything that this processor's output depends on, besides the input."""
        settings: list[Any] = []
        if self.kind != "tokenizer":
            settings += [self.kind, json.loads(self.transform.to_json_string())]
        if self.has_tokenizer:
            backend: Any = self.tokenizer
            rules = json.loads(backend.backend_tokenizer.to_str())
            rules |= {"truncation": None, "padding": None}  # excluded: every call of the tokenizer sets them anew
            settings += [backend.pad_token_id, self.chat_template, rules]
        return hashlib.sha256(json.dumps(settings, ensure_ascii=False).encode()).hexdigest()

    def save(self, folder: Path, longest: int | None = None) -> None:
        """Write the processor to `folder`, for ``from_pretrained``.

        Args:
            folder: the folder of a model.
            longest: the model's maximum number of tokens, which pipelines that truncate read from the tokenizer. None:
                no limit.
        """
        if self.has_tokenizer and longest is not None:
            self.tokenizer.model_max_length = min(self.tokenizer.model_max_length, longest)
        if self.words is not None:
            self.words.save_pretrained(folder)
        self.transform.save_pretrained(folder)
