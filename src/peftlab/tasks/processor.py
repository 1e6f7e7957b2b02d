"""Processors: what turns texts, pictures or sounds into the numbers that a pretrained model takes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

ProcessorKind = Literal["tokenizer", "image_processor", "feature_extractor"]
"""What a task encodes its examples with, in the terms of transformers."""


@dataclass(frozen=True)
class Processor:
    """The processor that a pretrained model comes with."""

    kind: ProcessorKind
    transform: Any
    """The object of transformers: a fast tokenizer, an image processor or a feature extractor."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer, of a processor for texts."""
        assert self.kind == "tokenizer", f"the task says that it takes a processor of the kind {self.kind}"
        return self.transform

    @property
    def chat_template(self) -> str | None:
        """Return the template that the model's conversations follow; None where it has none."""
        return getattr(self.transform, "chat_template", None)

    def fingerprint(self) -> str:
        """Return a digest of everything that decides what this processor makes of an input."""
        if self.kind == "tokenizer":
            rules = json.loads(self.transform.backend_tokenizer.to_str())
            rules |= {"truncation": None, "padding": None}  # no part of it: every call of the tokenizer sets them anew
            settings = [self.transform.pad_token_id, self.chat_template, rules]
        else:
            settings = [self.kind, json.loads(self.transform.to_json_string())]
        return hashlib.sha256(json.dumps(settings, ensure_ascii=False).encode()).hexdigest()

    def save(self, folder: Path, longest: int | None = None) -> None:
        """Write the processor to `folder`, for ``from_pretrained``.

        Args:
            folder: that of a model.
            longest: the most tokens that the model takes: a pipeline that truncates asks the tokenizer for it. None:
                there is no such limit.
        """
        if self.kind == "tokenizer" and longest is not None:
            self.transform.model_max_length = min(self.transform.model_max_length, longest)
        self.transform.save_pretrained(folder)
